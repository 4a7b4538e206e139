"""`flash_pipeline promote`, `promotions` and `rollback`: by hand, and on record."""

import dataclasses
import getpass
import json
import os

import dagster as dg
import numpy as np
import pytest

from flash_pipeline.errors import DataError, InvalidInput, ModelNotRegistered
from flash_pipeline.evaluation import Contest
from flash_pipeline.storage.lock import claim_home
from flash_pipeline.training.tracking import CHAMPION, Registry
from flash_pipeline.windows import Panel, read_windows, write_windows

pytestmark = pytest.mark.slow


@pytest.fixture
def contested(used):
    """A home in which version 2 has met the champion, version 1, and was not promoted."""
    registry = Registry(used.settings)
    first = registry.require(CHAMPION)
    source = registry.client.get_model_version("flash-attention-trader", "1").source
    assert registry.register(source, first.run_id, first.tags).version == "2"
    contest = Contest.load(used.settings.contest)
    second = dataclasses.replace(contest.challenger, version="2")
    dataclasses.replace(contest, challenger=second, rival="1").save(used.settings.contest)
    return used


def champion(command) -> str:
    return Registry(command.settings).require(CHAMPION).version


def log(invoke, command) -> list[dict]:
    return json.loads(invoke(command.home, "promotions", "--json").stdout)["promotions"]


def test_the_first_run_is_on_record(finished, invoke):
    command, _ = finished
    (row,) = log(invoke, command)
    assert (row["action"], row["challenger"], row["champion"]) == ("promoted", "1", None)
    assert row["reason"] == "there was no champion; not tested against one"
    done = invoke(command.home, "promotions")
    assert "none -> 1" in done.stdout


def test_the_challenger_is_promoted_by_hand_and_back_again(contested, invoke):
    done = invoke(contested.home, "promote")
    assert done.exit_code == 0, done.output
    assert "Champion is version 2, in place of version 1." in done.stdout
    assert champion(contested) == "2"
    row = log(invoke, contested)[-1]
    assert (row["action"], row["forced"], row["who"]) == ("promoted", True, getpass.getuser())

    done = invoke(contested.home, "rollback", "--reason", "it trades at night")
    assert "Champion is version 1 again." in done.stdout
    assert champion(contested) == "1"
    row = log(invoke, contested)[-1]
    assert (row["action"], row["challenger"], row["champion"]) == ("rolled back", "1", "2")
    assert (row["who"], row["reason"].endswith("it trades at night")) == (getpass.getuser(), True)
    with dg.DagsterInstance.from_config(str(contested.settings.dagster_home)) as instance:
        told = instance.get_latest_materialization_event(dg.AssetKey("champion"))
        assert told.asset_materialization.metadata["version"].value == "1"


def test_a_user_without_a_name_is_on_record_by_number(contested, invoke, monkeypatch):
    def nameless():
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert invoke(contested.home, "promote").exit_code == 0
    assert invoke(contested.home, "rollback").exit_code == 0
    assert [row["who"] for row in log(invoke, contested)[-2:]] == [f"uid {os.getuid()}"] * 2


def test_a_champion_that_the_windows_do_not_fit_is_warned_of(contested, invoke):
    assert "The next run forecasts with it." in invoke(contested.home, "promote").stdout
    frame = read_windows(contested.settings.windows)
    write_windows(
        Panel(
            symbols=("BTCUSDT", "SOLUSDT"),
            features=frame.features,
            interval=frame.interval,
            start_time_T=frame.start_time_T,
            x_TSF=frame.along_time(frame.x_BKSF),
            close_TS=np.ones((len(frame.start_time_T), 2)),
        ),
        contested.settings.windows,
        lookback=frame.lookback,
        horizon=frame.horizon,
        stride=frame.stride,
        synthetic=True,
    )
    done = invoke(contested.home, "rollback")
    assert (done.exit_code, champion(contested)) == (0, "1")
    assert "Champion is version 1 again. Warning: it predicts BTCUSDT, ETHUSDT" in done.stdout
    assert "The next run forecasts with it" not in done.stdout


def test_promotions_are_a_table_of_the_newest(contested, invoke):
    invoke(contested.home, "promote")
    shown = invoke(contested.home, "promotions", "--last", "1").stdout
    assert "promoted by force" in shown
    assert "1 -> 2" in shown
    assert "there was no champion" not in shown


def test_another_version_than_the_challenger_is_refused(contested, invoke):
    done = invoke(contested.home, "promote", "1")
    assert isinstance(done.exception, InvalidInput)
    assert "version '1' is not the challenger: expected 2" in str(done.exception)
    assert champion(contested) == "1"


def test_a_champion_is_not_promoted_again(used, invoke):
    done = invoke(used.home, "promote", "1")
    assert (done.exit_code, done.stdout) == (0, "Version 1 is the champion already.\n")
    assert len(log(invoke, used)) == 1


def test_a_first_champion_has_no_predecessor(used, invoke):
    done = invoke(used.home, "rollback")
    assert isinstance(done.exception, ModelNotRegistered)
    assert "champion 1 had no predecessor" in str(done.exception)


@pytest.mark.parametrize("name", ["promote", "rollback"])
def test_nothing_is_changed_while_a_run_is_active(contested, name):
    with claim_home(contested.home) as claim:
        claim.name_run("a-run")
        done = contested(name)
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: run a-run is active" in done.stderr
    assert champion(contested) == "1"


def test_before_the_first_run_they_say_what_to_run(command, invoke):
    for name, kind in (("promote", DataError), ("promotions", DataError)):
        done = invoke(command.home, name)
        assert isinstance(done.exception, kind)
        assert str(command.home) in str(done.exception)
    assert isinstance(invoke(command.home, "rollback").exception, ModelNotRegistered)
