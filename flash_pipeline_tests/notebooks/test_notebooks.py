"""The notebooks run, one after another, each in a fresh kernel, and show pictures."""

import nbformat
import pytest

from notebooks.execute import NOTEBOOKS, execute


def test_there_are_five_and_each_says_what_it_shows_and_what_comes_next():
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05"]
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        assert cells[0].source.startswith(f"# {path.name[:2]} · ")
        assert "**Next:**" in cells[-1].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_is_small_and_of_no_machine(path):
    book = nbformat.read(path, as_version=4)
    assert path.stat().st_size < 300_000
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    shown = "".join(o.get("text", "") + o.get("data", {}).get("text/plain", "") for o in outputs)
    assert "/home/" not in shown
    assert "/tmp/" not in shown
    assert not [o for o in outputs if o.get("name") == "stderr" or o.output_type == "error"]


@pytest.mark.slow
def test_they_run_from_top_to_bottom(tmp_path):
    for path in NOTEBOOKS:
        book = execute(path, tmp_path)  # raises where a cell does
        stored = nbformat.read(path, as_version=4)
        assert [cell.source for cell in book.cells] == [cell.source for cell in stored.cells]
        outputs = [o for cell in book.cells for o in cell.get("outputs", [])]
        assert any("image/png" in o.get("data", {}) for o in outputs), path.name
        told = [o.text for o in outputs if o.get("name") == "stderr"]
        assert told == [], path.name
