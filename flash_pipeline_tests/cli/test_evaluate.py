"""`flash_pipeline evaluate` and `flash_pipeline audit`."""

import json
import shutil

import pytest

from flash_pipeline.cli.evaluate import MOST_FOLDS
from flash_pipeline.defs.assets.walk_forward import FOLDS
from flash_pipeline.errors import ModelNotRegistered, NotEnoughHistory, RunFailed
from flash_pipeline.evaluation.audits import AuditResult
from flash_pipeline.storage.lock import claim_home
from flash_pipeline_tests.cli.conftest import CommandLine

pytestmark = pytest.mark.slow

SMALL_WALK = (
    *("evaluate", "--recipe", "demo", "--symbols", "BTCUSDT,ETHUSDT"),
    *("--folds", "2", "--models", "zero,ridge"),
)


@pytest.fixture(scope="module")
def walked(finished, tmp_path_factory):
    """A home after a walk-forward, and what that printed."""
    command = CommandLine(tmp_path_factory.mktemp("walked") / "home", finished[0].url)
    shutil.copytree(finished[0].home, command.home)
    done = command(*SMALL_WALK)
    assert done.returncode == 0, done.stderr
    return command, done


def test_every_model_gets_its_measures(walked):
    _, done = walked
    assert "SYNTHETIC MARKET, 2 folds, " in done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [words[0] for words in lines if words and words[0] in ("zero", "ridge")] == [
        "zero",
        "ridge",
    ]
    assert any(words[:1] == ["BTCUSDT"] for words in lines)
    assert "Traceback" not in done.stderr


def test_what_is_stored_is_shown_without_running_anything(walked, invoke):
    command, done = walked
    assert invoke(command.home, "evaluate", "--show").stdout == done.stdout


def test_json_holds_scores_and_dates_of_the_folds(walked, invoke):
    command, _ = walked
    answer = json.loads(invoke(command.home, "evaluate", "--show", "--json").stdout)
    assert [fold["fold"] for fold in answer["folds"]] == [1, 2]
    assert (answer["symbols"], answer["synthetic"]) == (["BTCUSDT", "ETHUSDT"], True)
    measured = {(row["model"], row["measure"]) for row in answer["scores"]}
    assert {("ridge", "rank_ic"), ("zero", "hit_rate")} <= measured


def test_a_fold_that_is_missing_is_run_alone(walked):
    command, _ = walked
    first, second = (command.settings.walk_forward / f"fold-{n}.parquet" for n in (1, 2))
    before, table = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    done = command(*SMALL_WALK)
    assert done.returncode == 0, done.stderr
    assert first.stat().st_mtime_ns == before
    assert second.read_bytes() == table


def test_a_model_that_there_is_not_is_one_line(used, invoke):
    done = invoke(used.home, *SMALL_WALK[:-1], "oracle")
    assert isinstance(done.exception, RunFailed)
    assert "oracle" in str(done.exception)


def test_without_symbols_it_takes_those_of_the_windows(used):
    done = used(*SMALL_WALK[:3], "--folds", "1", "--models", "zero", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["symbols"] == ["BTCUSDT", "ETHUSDT"]


def test_symbols_that_the_windows_are_not_of_are_told(used, invoke):
    done = invoke(used.home, "evaluate", "--recipe", "demo", "--symbols", "BTCUSDT")
    assert isinstance(done.exception, RunFailed)
    assert "BTCUSDT, ETHUSDT" in str(done.exception)


def test_before_any_walk_forward_it_says_what_to_run(command, invoke):
    done = invoke(command.home, "evaluate", "--show")
    assert isinstance(done.exception, NotEnoughHistory)
    assert "run flash_pipeline evaluate" in str(done.exception)


def test_it_is_refused_while_a_run_is_active(used):
    with claim_home(used.home) as claim:
        claim.name_run("a-run")
        done = used(*SMALL_WALK)
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: run a-run is active" in done.stderr


def test_the_folds_offered_are_those_of_the_asset(command, invoke):
    assert MOST_FOLDS == FOLDS
    assert invoke(command.home, "evaluate", "--folds", str(FOLDS + 1)).exit_code == 2


def test_the_champion_passes_its_audits(finished, invoke):
    command, _ = finished
    done = invoke(command.home, "audit", "--json")
    answer = json.loads(done.stdout)
    assert (done.exit_code, answer["passed"]) == (0, True), done.stdout
    names = ["future", "warm-up", "scaling", "labels", "shift", "live", "shuffle", "retraining"]
    assert [each["audit"] for each in answer["audits"]] == names
    assert answer["not_checked"] == [], [e["words"] for e in answer["audits"] if not e["checked"]]


def test_an_audit_that_fails_is_exit_status_1(command, invoke, monkeypatch):
    results = (
        AuditResult("future", False, "bar 3 changed"),
        AuditResult("live", False, "not checked: no forecast", checked=False),
    )
    asked = []

    def audit_version(_, version, *, train):
        asked.append((version, train))
        return results

    monkeypatch.setattr("flash_pipeline.evaluation.audits.audit_version", audit_version)
    command.home.mkdir(exist_ok=True)
    (command.home / "mlflow.db").touch()  # of an earlier run
    done = invoke(command.home, "audit", "3", "--quick")
    assert (done.exit_code, asked) == (1, [("3", False)])
    lines = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert ["future", "FAILED", "bar", "3", "changed"] in lines
    assert any(words[:3] == ["live", "not", "checked"] for words in lines)


def test_a_version_that_there_is_not_is_told(finished, invoke):
    done = invoke(finished[0].home, "audit", "99")
    assert isinstance(done.exception, ModelNotRegistered)
    assert "/99 does not exist" in str(done.exception)
