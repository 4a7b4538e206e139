"""Dagster's own storage below the home."""

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from flash_pipeline.errors import HomeNotWritable
from flash_pipeline.settings import Settings
from flash_pipeline.storage.files import replacing_file


def prepare_instance(settings: Settings, environ: Mapping[str, str] | None = None) -> Path:
    """Return `DAGSTER_HOME`, by default below the home, with our `dagster.yaml` where it has none.

    Raises
    ------
    HomeNotWritable
        If the home or `DAGSTER_HOME` cannot be written.
    """
    values = os.environ if environ is None else environ
    settings.require_home()
    configured = values.get("DAGSTER_HOME")
    folder = Path(configured).expanduser().resolve() if configured else settings.dagster_home
    target = folder / "dagster.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            text = resources.files(__package__).joinpath("dagster.yaml").read_text()
            with replacing_file(target) as temporary:
                temporary.write_text(text)
    except OSError as error:
        raise HomeNotWritable(
            f"DAGSTER_HOME={str(folder)!r} cannot be written: {error.strerror}"
        ) from error
    return folder
