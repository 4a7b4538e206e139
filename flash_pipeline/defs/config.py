"""Configurations of assets, checked before a run's first step and not when their step begins."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import dagster as dg
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flash_pipeline.errors import InvalidConfig, InvalidInput

Config = TypeVar("Config", bound=type[dg.Config])

CONFIGS: dict[str, type[dg.Config]] = {}
"""Configuration of each asset that has one."""


def config_of(asset: str) -> Callable[[Config], Config]:
    """Return a decorator that makes a class the configuration of an asset."""

    def note(config: Config) -> Config:
        CONFIGS[asset] = config
        return config

    return note


def check_configs(run_config: Mapping[str, Any]) -> None:
    """Refuse a run's configuration with a value out of its bounds.

    Dagster itself checks it as the asset's step begins: a fee that cannot be would cost a training
    first. A value that is to come from the environment, `{"env": "NAME"}`, is left to Dagster: it
    reads it there.

    Raises
    ------
    InvalidConfig
        With the asset, the field, its value, and what was expected.
    """
    for asset, given in run_config.get("ops", {}).items():
        values = (given or {}).get("config") or {}
        try:
            if asset in CONFIGS:
                known = {name: each for name, each in values.items() if not _from_outside(each)}
                CONFIGS[asset](**known)
        except ValidationError as error:
            raise InvalidConfig(f"config of {asset}: {words_of(error)}") from error


def _from_outside(value: object) -> bool:
    """Say whether a value, or one within it, is the environment's."""
    if isinstance(value, Mapping):
        return set(value) == {"env"} or any(map(_from_outside, value.values()))
    return isinstance(value, list) and any(map(_from_outside, value))


def words_of(error: ValidationError) -> str:
    """Return pydantic's findings in one line: the field, its value, and what was expected.

    An error of our own says all of that itself.
    """
    return "; ".join(map(_words, error.errors()))


def _words(found: ErrorDetails) -> str:
    ours = found.get("ctx", {}).get("error")
    if isinstance(ours, InvalidInput):
        return str(ours)
    return f"{'.'.join(map(str, found['loc']))} is {found['input']!r}: {_lowered(found['msg'])}"


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
