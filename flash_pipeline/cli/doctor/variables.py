"""Doctor on the settings: what is read, and what looks like a setting and is none."""

import difflib
from collections.abc import Mapping

from flash_pipeline.cli.doctor.finding import Finding
from flash_pipeline.errors import InvalidSetting
from flash_pipeline.settings import VARIABLES, Settings, redacted

_PREFIX = "FLASH_PIPELINE_"


def read_settings(environ: Mapping[str, str]) -> Settings | Finding:
    """Return the settings, or what is wrong with them."""
    try:
        return Settings.from_environment(environ)
    except InvalidSetting as error:
        return Finding(
            "settings", "fail", str(error), "correct the variable, or unset it for its default"
        )


def check_variables(environ: Mapping[str, str]) -> list[Finding]:
    """Say which variables are set, and warn of names that nothing reads."""
    given = {name: environ[name] for name in VARIABLES if environ.get(name)}
    words = ", ".join(f"{name}={redacted(value)}" for name, value in given.items())
    unread = sorted(set(environ) - set(VARIABLES))
    return [
        Finding("variables", "ok", words or "none is set: every setting is the default"),
        *(
            Finding("variables", "warn", f"{name} is set, and nothing reads it", _suggestion(name))
            for name in unread
            if name.startswith(_PREFIX)
        ),
    ]


def _suggestion(name: str) -> str:
    near = difflib.get_close_matches(name, VARIABLES, n=1)
    return f"unset it, or write {near[0]}" if near else "unset it; README lists the variables"
