"""Instrument names, checked before they reach a path, a URL or SQL."""

import re
from collections.abc import Iterable

from flash_pipeline.errors import InvalidSymbol

_SYMBOL = re.compile(r"[A-Z0-9]{2,20}")


def parse_symbol(name: str) -> str:
    """Return `name` if it is a well-formed symbol such as `BTCUSDT`.

    Raises
    ------
    InvalidSymbol
        If it does not match `^[A-Z0-9]{2,20}$`.
    """
    if not isinstance(name, str) or _SYMBOL.fullmatch(name) is None:
        raise InvalidSymbol(
            f"symbol {name!r} is malformed: expected 2 to 20 of A-Z and 0-9, such as BTCUSDT"
        )
    return name


def parse_symbols(names: Iterable[str]) -> tuple[str, ...]:
    """Return the symbols in their order, which is the order of every tensor's symbol axis.

    Raises
    ------
    InvalidSymbol
        If one is malformed or given twice, or if there is none.
    """
    symbols = tuple(parse_symbol(name) for name in names)
    if not symbols:
        raise InvalidSymbol("no symbol given: expected at least one, such as BTCUSDT")
    repeated = {symbol for symbol in symbols if symbols.count(symbol) > 1}
    if repeated:
        raise InvalidSymbol(f"symbol {sorted(repeated)[0]!r} is given more than once")
    return symbols
