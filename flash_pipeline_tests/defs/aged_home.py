"""A home with something old in it, for the tests of the pruning."""

import os
import time

from flash_pipeline.settings import Settings

YEAR_S = 365 * 86_400


def settings():
    settings = Settings.from_environment()
    settings.require_home()
    return settings


def old_report(name="20200101T0000Z"):
    folder = settings().reports / name
    folder.mkdir(parents=True)
    (folder / "report.html").write_bytes(b"x" * 100)
    os.utime(folder, (time.time() - YEAR_S,) * 2)
    return folder
