"""`flash_pipeline prune`: the daily pruning at once, with the options of its job."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from flash_pipeline.cli import cli
from flash_pipeline.defs.instance import prepare_instance
from flash_pipeline.defs.retention import RetentionConfig
from flash_pipeline.storage.lock import claim_home
from flash_pipeline_tests.defs.test_retention import old_report, settings


@pytest.fixture
def command(monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(prepare_instance(settings())))
    return lambda *words: CliRunner().invoke(cli, ["prune", *words])


def test_the_command_lists_and_removes(command):
    for n in range(102):
        old_report(f"2020{n:04d}")
    dry = command("--dry-run")
    assert dry.exit_code == 0
    assert "2 in all would go, 200 bytes" in dry.output
    assert "2 x report" in command().output
    assert len(list(settings().reports.iterdir())) == 100
    assert "0 in all removed, 0 bytes" in command().output


def test_the_command_has_an_option_for_every_field_of_the_job_with_its_bounds_and_words():
    command = cli.commands["prune"]
    options = {each.name: each for each in command.params}
    usual = command.make_context("prune", []).params
    assert set(options) == set(RetentionConfig.model_fields)
    for name, field in RetentionConfig.model_fields.items():
        option = options[name]
        assert option.opts == [f"--{name.replace('_', '-')}"]
        assert (usual[name], option.help) == (field.default, field.description)
        if not option.is_flag:
            bounds = {type(each).__name__: each for each in field.metadata}
            assert (option.type.min, option.type.max) == (bounds["Ge"].ge, bounds["Le"].le)


def test_the_command_gives_its_options_to_the_pruning(command):
    for n in range(3):
        old_report(f"2020{n:04d}")
    month = settings().klines / "symbol=BTCUSDT" / "month=2020-01.parquet"
    month.parent.mkdir(parents=True)
    month.write_bytes(b"")
    refused = command("--reports", "1")
    assert "raise clock_days" in str(refused.exception)
    assert "2 x report" in command("--reports", "1", "--clock-days", "36500").output
    assert command("--reports", "0").exit_code == 2


def test_the_command_refuses_while_a_run_holds_the_home(command):
    code = (
        "import sys, time, pathlib; from flash_pipeline.storage.lock import claim_home\n"
        "with claim_home(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(settings().home)], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline().strip() == b"held"
        refused = command()
        other.kill()
    assert type(refused.exception).__name__ == "HomeBusy"
    with claim_home(settings().home):
        pass
