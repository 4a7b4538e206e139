"""Keeps to one market: hosts of one name must not serve live and simulated numbers in turn."""

import threading

from flash_pipeline.errors import InconsistentAnswer
from flash_pipeline.market import MARKET_HEADER
from flash_pipeline.transport.answer import Answer

LIVE = "live"
"""The market of an answer without a label."""


class OneMarket:
    """The market that the answers of a source are of; may be called from several threads.

    Parameters
    ----------
    source : str
        Named in errors.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._market: str | None = None

    @property
    def market(self) -> str | None:
        """`live`, `simulated` or `replay`; None before the first answer."""
        return self._market

    def require(self, answer: Answer) -> None:
        """Pass an answer of the market that the first one was of.

        Raises
        ------
        InconsistentAnswer
            For another one, such as a second host that serves simulated numbers.
        """
        market = answer.headers.get(MARKET_HEADER.lower(), LIVE)
        with self._lock:
            self._market = self._market or market
        if market != self._market:
            raise InconsistentAnswer(
                f"{answer.url} answers for the {market!r} market, {self._source} was "
                f"{self._market!r}"
            )
