"""What to do about symbols that an exchange lists no more, and has forgotten."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from flash_pipeline.errors import UnknownSymbol

T = TypeVar("T")


def ask_about_known(
    ask: Callable[[Sequence[str]], T], symbols: Sequence[str], none: T
) -> tuple[T, tuple[str, ...]]:
    """Ask a source about symbols, less those that it does not know.

    An exchange lists a delisted instrument for some years and then forgets it. One such symbol
    among many makes it refuse a question about all.

    Parameters
    ----------
    ask : callable
        Asks about symbols; raises UnknownSymbol with the first that is not known.
    symbols : sequence of str
        Instruments; may be none.
    none : T
        The answer about no symbol.

    Returns
    -------
    tuple of T and tuple of str
        The answer about those that are known, and those that are not.
    """
    unknown: list[str] = []
    while True:
        known = [symbol for symbol in symbols if symbol not in unknown]
        if not known:
            return none, tuple(unknown)
        try:
            return ask(known), tuple(unknown)
        except UnknownSymbol as error:
            if error.symbol is None or error.symbol not in known:
                raise
            unknown.append(error.symbol)
