"""The parameters of a chart, and the refusals of them."""

from collections.abc import Mapping
from dataclasses import dataclass

_DAY_MS = 86_400_000
_RANGES_D = {"1d": 1, "5d": 5, "1mo": 30, "3mo": 91, "6mo": 182, "1y": 365, "2y": 730, "5y": 1826}
_INTERVALS = {"1h": "1h", "60m": "1h", "1d": "1d"}
_HOURLY_DAYS = 730  # hourly bars reach back no further

VALID_RANGES = [*_RANGES_D, "10y", "ytd", "max"]
"""What `range` may be, as the answer lists it; of the last three only `max` is served."""


class ChartRefusedError(Exception):
    """A chart that is not given.

    Parameters
    ----------
    status : int
        HTTP status.
    code, description : str
        What the answer says.
    """

    def __init__(self, status: int, code: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.code = code
        self.description = description


@dataclass(frozen=True)
class ChartQuery:
    """What is asked of a chart."""

    interval: str
    """`1h` or `1d`."""
    first: int
    """First instant, ms since the epoch."""
    end: int
    """First instant after the chart, ms since the epoch."""
    range: str
    """The range asked for by name; empty where it was given by its ends."""


def read_query(parameters: Mapping[str, str], now: int) -> ChartQuery:
    """Return what the parameters ask for, at an instant in ms since the epoch.

    Raises
    ------
    ChartRefusedError
        400 for a parameter that cannot be read; 422 for hourly bars of more than 730 days ago.
    """
    interval = _INTERVALS.get(parameters.get("interval", "1d"))
    if interval is None:
        raise _bad(
            f"Invalid input - interval={parameters['interval']} is not supported. "
            f"Valid intervals: [{', '.join(_INTERVALS)}]"
        )
    query = _span(parameters, interval, now)
    if interval == "1h" and query.first < now - _HOURLY_DAYS * _DAY_MS:
        raise ChartRefusedError(
            422,
            "Unprocessable Entity",
            f"1h data not available for startTime={query.first // 1000} and "
            f"endTime={query.end // 1000}. The requested range must be within the last 730 days.",
        )
    return query


def _span(parameters: Mapping[str, str], interval: str, now: int) -> ChartQuery:
    if "period1" in parameters:
        first = _seconds(parameters, "period1") * 1000
        end = _seconds(parameters, "period2") * 1000 if "period2" in parameters else now + 1
        if first >= end:
            raise _bad("Invalid input - start date cannot be after end date.")
        return ChartQuery(interval, first, end, "")
    name = parameters.get("range", "1mo")
    if name == "max":
        first = 0 if interval == "1d" else now - _HOURLY_DAYS * _DAY_MS
    elif name in _RANGES_D:
        first = now - _RANGES_D[name] * _DAY_MS
    else:
        raise _bad(f"Invalid input - range={name} is not supported.")
    return ChartQuery(interval, first, now + 1, name)


def _seconds(parameters: Mapping[str, str], name: str) -> int:
    text = parameters[name]
    if not text.removeprefix("-").isdecimal() or len(text) > 12:
        raise _bad(f"Invalid input - {name}={text} is no number of seconds.")
    return int(text)


def _bad(description: str) -> ChartRefusedError:
    return ChartRefusedError(400, "Bad Request", description)
