"""The shapes that JSON answers are read into."""

from pydantic import BaseModel, ConfigDict, ValidationError

_SHOWN = 80  # characters of a bad value in a message


class Fields(BaseModel):
    """Base of the shapes of answers: JSON's own types are kept apart, other fields are let be."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="ignore",
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


def describe(error: ValidationError) -> str:
    """Return the first complaint of a validation: where, which value, and what was expected."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "the answer"
    return f"{where} is {first['input']!r:.{_SHOWN}}: {first['msg']}"
