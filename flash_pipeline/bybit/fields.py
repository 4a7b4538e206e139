"""The fields of the exchange's answers: numbers and times that come as strings, read strictly."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from flash_pipeline.errors import MalformedAnswer
from flash_pipeline.transport import describe

JsonObject = Mapping[str, Any]

NUMBER_PATTERN = r"-?[0-9]{1,30}(\.[0-9]{0,30})?([eE][-+]?[0-9]{1,3})?"
"""What a number looks like; whether it is finite is seen after that."""

MOST_DIGITS = 14
"""Digits of a time at most: as milliseconds the year 5138; a date cannot hold any number."""

_NUMBER = re.compile(NUMBER_PATTERN, re.ASCII)
_INTEGER = re.compile(f"[0-9]{{1,{MOST_DIGITS}}}", re.ASCII)

M = TypeVar("M", bound=BaseModel)


def _read_number(text: object) -> float:
    plain = isinstance(text, str) and _NUMBER.fullmatch(text) is not None
    value = float(text) if plain else math.nan  # type: ignore[arg-type]
    if not math.isfinite(value):
        raise ValueError("expected a finite number in a string")
    return value


def _read_integer(text: object) -> int:
    if not isinstance(text, str) or _INTEGER.fullmatch(text) is None:
        raise ValueError(f"expected up to {MOST_DIGITS} digits in a string")
    return int(text)


def _read_optional_number(text: object) -> float | None:
    return None if text == "" else _read_number(text)


def _read_optional_integer(text: object) -> int | None:
    return None if text == "" else _read_integer(text)


Number = Annotated[float, BeforeValidator(_read_number)]
"""A finite number from a string."""

OptionalNumber = Annotated[float | None, BeforeValidator(_read_optional_number)]
"""The same, or None from an empty string."""

Milliseconds = Annotated[int, BeforeValidator(_read_integer)]
"""A time, or a length of time, from a string of digits."""

OptionalMilliseconds = Annotated[int | None, BeforeValidator(_read_optional_integer)]
"""The same, or None from an empty string."""

JsonMilliseconds = Annotated[int, Field(ge=0, lt=10**MOST_DIGITS)]
"""A time that comes as a JSON number."""


def parse_row(model: type[M], row: object, symbol: str) -> M:
    """Return one object of an answer as a model of typed fields.

    Raises
    ------
    MalformedAnswer
        If a field is missing or of another form than documented; it is named.
    """
    try:
        return model.model_validate(row)
    except ValidationError as error:
        raise MalformedAnswer(f"{symbol}: {describe(error)}", symbol=symbol) from error
