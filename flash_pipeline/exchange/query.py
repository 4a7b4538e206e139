"""Strict reading of query parameters."""

import re
from collections.abc import Iterable

from flash_pipeline.errors import InvalidInput
from flash_pipeline.exchange.instruments import Instrument
from flash_pipeline.exchange.source import Market, listed_instrument
from flash_pipeline.market import Interval

CATEGORY = "linear"
"""The one category served: perpetuals in USDT."""

_NUMBER = re.compile(r"[0-9]{1,15}")


class Query:
    """The parameters of a request; each reader raises `InvalidInput` naming its parameter.

    A parameter that is given but empty counts as not given, as on the exchange. Unknown
    parameters are ignored, as there.

    Parameters
    ----------
    pairs : iterable of (str, str)
        Names and values.

    Raises
    ------
    InvalidInput
        If a name occurs twice.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._parameters: dict[str, str] = {}
        for name, value in pairs:
            if name in self._parameters:
                raise InvalidInput(f"{name} is given more than once")
            self._parameters[name] = value

    def text(self, name: str) -> str | None:
        """Return a parameter, or None."""
        return self._parameters.get(name) or None

    def required(self, name: str) -> str:
        """Return a parameter that must be given."""
        value = self.text(name)
        if value is None:
            raise InvalidInput(f"{name} is required")
        return value

    def whole(self, name: str) -> int | None:
        """Return a parameter of digits only, or None."""
        value = self.text(name)
        if value is None:
            return None
        if _NUMBER.fullmatch(value) is None:
            raise InvalidInput(f"{name} {value!r} is no whole number")
        return int(value)

    def limit(self, default: int, largest: int) -> int:
        """Return `limit`, 1 to `largest`."""
        value = self.whole("limit")
        if value is None:
            return default
        if not 1 <= value <= largest:
            raise InvalidInput(f"limit {value} is not within 1 to {largest}")
        return value

    def category(self, default: str | None = None) -> str:
        """Return `category`, which must be `linear`."""
        value = self.text("category") or default or self.required("category")
        if value != CATEGORY:
            raise InvalidInput(f"category {value!r} is not served, only {CATEGORY}")
        return value

    def instrument(self, market: Market) -> Instrument:
        """Return the instrument of `symbol`, upper case as the exchange writes it."""
        return listed_instrument(market, self.required("symbol"))

    def interval(self) -> Interval:
        """Return `interval`, one of fixed length: W and M are not served."""
        return Interval.parse(self.required("interval"))

    def span(self, start: str, end: str, latest: int) -> tuple[int, int]:
        """Return both ends of a range of time, ms; by default all of it up to `latest`."""
        first, last = self.whole(start), self.whole(end)
        if first is not None and last is not None and first > last:
            raise InvalidInput(f"{start} {first} is after {end} {last}")
        return (0 if first is None else first), (latest if last is None else min(last, latest))
