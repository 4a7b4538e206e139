"""The exchange's clock: what is closed is decided by it, never by this machine's."""

from typing import Annotated

from pydantic import Field

from flash_pipeline.bybit.answers import Envelope
from flash_pipeline.bybit.api import Api
from flash_pipeline.errors import InconsistentAnswer
from flash_pipeline.transport import Fields

PATH = "/v5/market/time"
"""Route."""

_TOLERANCE_MS = 5_000  # between the parts of one answer; the exchange takes them moments apart

Digits = Annotated[str, Field(pattern=r"^[0-9]{1,20}$")]
"""A number in a string, of more digits than a time in milliseconds has."""


class TimeResult(Fields):
    """The result of a call for the clock."""

    second: Digits | None = Field(alias="timeSecond", default=None)
    nano: Digits | None = Field(alias="timeNano", default=None)


def read_clock(api: Api) -> int:
    """Return the exchange's clock, ms since the epoch, UTC.

    Raises
    ------
    InconsistentAnswer
        If the parts of the answer tell different times.
    """

    def read(envelope: Envelope[TimeResult]) -> int:
        result = envelope.result
        times = [envelope.time]
        times += [int(result.second) * 1000] if result.second else []
        times += [int(result.nano) // 1_000_000] if result.nano else []
        if max(times) - min(times) > _TOLERANCE_MS:
            raise InconsistentAnswer(f"{PATH} answered different times at once: {times} ms")
        api.set_clock(envelope.time)
        return envelope.time

    return api.get(PATH, {}, Envelope[TimeResult], read)
