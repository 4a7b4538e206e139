"""The benchmark of the groups of long sequences, small, and called again after a kill."""

import json

import pytest
import yaml

from benchmarks import long_sequences
from flash_pipeline.definitions import defs
from flash_pipeline.training import loop

SMALL = {
    "ops": {"order_book_model": {"config": {"force": False}}},
    "resources": {
        "order_book": {
            "config": {
                "hours": 0.5, "levels": 3, "history": 4, "epochs": 2, "windows_per_epoch": 64,
                "stride": 5,
            }
        }
    },
}  # fmt: skip


@pytest.fixture
def called(tmp_path, monkeypatch):
    """Return a function that runs the benchmark on one home and returns its figures."""
    for name in ("FLASH_PIPELINE_HOME", "FLASH_PIPELINE_RECIPE"):
        monkeypatch.setenv(name, "")  # given back afterwards
    working = tmp_path / "cwd"
    working.mkdir()
    monkeypatch.chdir(working)
    config, figures = tmp_path / "book.yaml", tmp_path / "figures.json"
    config.write_text(yaml.safe_dump(SMALL))

    def called(code=0):
        home = ["--home", str(tmp_path / "home"), "--json", str(figures)]
        options = ["--group", "order_book", "--config", str(config), *home]
        assert long_sequences.main(options) == code
        assert list(working.iterdir()) == []
        return json.loads(figures.read_text())

    return called


def test_a_killed_run_goes_on_and_says_so(called, monkeypatch, tmp_path):
    judged, losses = loop.evaluate, []

    def die_in_the_axial(*arguments):
        losses.append(judged(*arguments))
        if len(losses) == 3:
            raise KeyboardInterrupt
        return losses[-1]

    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate", die_in_the_axial)
        killed = called(code=1)
    assert list(killed["assets"]) == ["order_book_snapshots"]
    assert killed["reason"]
    found = called()
    assert found["processes"] == {
        "order_book_snapshots": 1, "order_book_model": 2, "order_book_report": 1
    }  # fmt: skip
    assert set(found["assets"]) == set(long_sequences.GROUPS["order_book"])
    assert found["tokens"] == 3 * 2 * 4
    assert found["trainings"]["joint"]["resumed"] == "after epoch 2, step 0"
    assert found["trainings"]["axial"]["resumed"] is None
    assert {row["model"] for row in found["report"]["scores"]} >= {"joint", "axial", "state"}
    assert "torch" in found["versions"]
    assert not (tmp_path / "home" / long_sequences.PROGRESS).exists()


def test_a_configuration_of_another_asset_is_refused(tmp_path, capsys):
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump({"ops": {"klines": {}}}))
    with pytest.raises(SystemExit):
        long_sequences.main(["--group", "portfolio", "--config", str(path)])
    assert "names 'klines': expected market_candles" in capsys.readouterr().err


@pytest.mark.parametrize("group", long_sequences.GROUPS)
def test_the_assets_named_are_those_of_the_job(group):
    keys = defs.resolve_job_def(group).asset_layer.executable_asset_keys
    assert {key.to_user_string() for key in keys} == {*long_sequences.GROUPS[group]}
