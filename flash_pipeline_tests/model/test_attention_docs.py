"""What docs/attention.md names is there."""

import re
from pathlib import Path
from typing import get_args

from flash_pipeline.model import attention, kernels, refusals, tiled
from flash_pipeline.model.config import SpanName

PROJECT = Path(__file__).resolve().parents[2]
PAGE = (PROJECT / "docs" / "attention.md").read_text(encoding="utf-8")


def listed(heading):
    """Return the names in backticks in the first column of a section's table."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, flags=re.M)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_every_backend_is_described():
    assert listed("The seam") == set(refusals.BACKENDS)


def test_every_span_is_described():
    assert listed("Spans") == set(get_args(SpanName))


def test_the_functions_it_explains_exist():
    for name in ("_online_softmax", "_gradients"):
        assert f"`{name}`" in PAGE
        assert hasattr(tiled, name)
    for module, name in ((kernels, "reference_attention"), (attention, "choose_backend")):
        assert f"`{name}`" in PAGE
        assert hasattr(module, name)


def test_the_files_it_points_to_exist():
    package, tests = PROJECT / "flash_pipeline", Path(__file__).parent
    for path in re.findall(r"`(model/[\w/.]+)`", PAGE):
        assert (package / path).is_file(), path
    for name in re.findall(r"`(test_\w+\.py)`", PAGE):
        assert (tests / name).is_file(), name
