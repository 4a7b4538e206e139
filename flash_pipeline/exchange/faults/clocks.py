"""Faults of the clock: times in an answer that are not the exchange's."""

from flash_pipeline.exchange.answer import Answer
from flash_pipeline.exchange.faults.fault import CANDLE_PATHS, Ask, Fault

_HOUR_MS = 3_600_000
_TIME_PATH = "/v5/market/time"


def envelope_clock_forward(answer: Answer, ask: Ask) -> Answer:
    """The envelope of candles is hours ahead: a candle under way would seem closed."""
    return _moved(answer, _hours(ask))


def envelope_clock_back(answer: Answer, ask: Ask) -> Answer:
    """The envelope of candles is hours behind: closed candles would seem under way."""
    return _moved(answer, -_hours(ask))


def server_time_forward(answer: Answer, ask: Ask) -> Answer:
    """The clock that is asked for is hours ahead."""
    return _moved(answer, _hours(ask))


def server_time_back(answer: Answer, ask: Ask) -> Answer:
    """The clock that is asked for is hours behind."""
    return _moved(answer, -_hours(ask))


def _of_candles(ask: Ask) -> bool:
    return ask.path in CANDLE_PATHS


def _of_time(ask: Ask) -> bool:
    return ask.path == _TIME_PATH


CLOCKS = (
    Fault(envelope_clock_forward, applies=_of_candles),
    Fault(envelope_clock_back, applies=_of_candles),
    Fault(server_time_forward, applies=_of_time),
    Fault(server_time_back, applies=_of_time),
)
"""Every kind of this module."""


def _hours(ask: Ask) -> int:
    return ask.random.randint(1, 5) * _HOUR_MS


def _moved(answer: Answer, by_ms: int) -> Answer:
    body = answer.json()
    body["time"] += by_ms
    if "timeNano" in body["result"]:
        nano = int(body["result"]["timeNano"]) + by_ms * 1_000_000
        body["result"] = {"timeSecond": str(nano // 1_000_000_000), "timeNano": str(nano)}
    return answer.with_json(body)
