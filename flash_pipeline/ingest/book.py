"""The gaps of a refresh: read when first needed, each symbol's put on record before its files."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from threading import Lock

from flash_pipeline.ingest.gaps import Gap
from flash_pipeline.ingest.ledger import Ledger


class GapBook:
    """Keeps the warehouse closed until something is missing; may be used by several threads.

    Parameters
    ----------
    ledger : Ledger or None
        Where gaps are recorded; None records nothing and knows none.
    """

    def __init__(self, ledger: Ledger | None) -> None:
        self._ledger = ledger
        self._reading, self._writing, self._queueing = Lock(), Lock(), Lock()
        self._queued: dict[str, Sequence[Gap]] = {}

    def known(self) -> Mapping[str, Sequence[Gap]]:
        """Return the open gaps by symbol as they were when this was called first."""
        with self._reading:
            return self._known

    def record(self, symbol: str, gaps: Sequence[Gap]) -> None:
        """Put gaps in the place of the open ones of a symbol, unless they are those.

        When this returns they are on record. Symbols that come while another's are written wait,
        and then go in one transaction: opening the warehouse takes longer than writing.
        """
        if self._ledger is None or list(gaps) == list(self.known().get(symbol, ())):
            return
        with self._queueing:
            self._queued[symbol] = gaps
        with self._writing:
            with self._queueing:
                batch, self._queued = self._queued, {}
            if not batch:
                return  # the symbol that wrote last took these along
            try:
                self._ledger.replace_open_gaps(batch)
            except BaseException:
                with self._queueing:  # those of other symbols are theirs to write
                    self._queued = batch | self._queued
                raise

    @cached_property
    def _known(self) -> Mapping[str, Sequence[Gap]]:
        return self._ledger.open_gaps() if self._ledger is not None else {}
