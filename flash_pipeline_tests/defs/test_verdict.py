"""What watches over the models in use: the live record, drift, leak audits, the gate."""

import dataclasses

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flash_pipeline.defs.failures import failure_reason
from flash_pipeline.defs.jobs import AUDIT_JOB
from flash_pipeline.errors import ModelNotRegistered, NotEnoughHistory
from flash_pipeline.evaluation import (
    read_promotions,
    record_forecast,
    settle_contest,
    watch_features,
    watch_forecasts,
)
from flash_pipeline.evaluation.audits import Candles, audit_version
from flash_pipeline.evaluation.audits.result import not_checked
from flash_pipeline.features.catalog import CATALOG
from flash_pipeline.market import Interval
from flash_pipeline.storage.warehouse import open_warehouse
from flash_pipeline.training.baselines import BASELINES
from flash_pipeline.training.tracking import CHAMPION, Registry

AUDITS = ["future", "warm-up", "scaling", "labels", "shift", "live"]


@pytest.fixture(autouse=True)
def isolated_settings():
    """Leave the environment to the chain, which outlives a test."""


def metadata(result, asset):
    (event,) = (
        event
        for event in result.all_events
        if event.is_step_materialization and event.asset_key == dg.AssetKey(asset)
    )
    return event.materialization.metadata


def checks(result):
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


@pytest.fixture
def lived(finished):
    """Return a function that puts past forecasts of the champion on record and looks at them.

    They are those of its backtest, or their opposite where the model has lost what it knew.
    """
    chain, _ = finished
    (report,) = chain.settings.reports.glob("*/predictions.parquet")
    told = pq.read_table(report).to_pylist()

    def lived(sign):
        rows = [
            {
                "symbol": row["symbol"],
                "made_at": row["made_at"],
                "interval": "60",
                "horizon": 24,
                "head": "regression",
                "prediction": sign * row["label"],
                "model_version": row["model_version"],
                "synthetic": True,
                "lower": None,
                "upper": None,
                "coverage": None,
            }
            for row in told
            if row["label"] is not None
        ]
        with open_warehouse(chain.settings.warehouse) as connection:
            record_forecast(connection, pa.Table.from_pylist(rows), Interval.HOUR_1)
        result = chain.run(assets=["live_record"])
        assert result.success, failure_reason(result)
        return result

    return lived


def test_before_a_horizon_has_passed_there_is_nothing_to_compare(finished):
    chain, result = finished
    assert metadata(result, "live_record")["dagster/row_count"].value == 0
    check = checks(result)["live_forecasts_keep_the_backtests_promise"]
    assert check.description == "not checked: no forecast of the champion is scored yet"
    assert watch_forecasts(chain.settings) is None


def test_the_live_record_tells_what_the_forecasts_were_worth(lived):
    told = metadata(lived(+1), "live_record")
    assert told["recent/rank_ic"].value == pytest.approx(1)
    assert told["recent/hit_rate"].value == pytest.approx(1)
    assert told["recent_dates"].value > 96
    assert told["chart"].value.startswith("![live record](data:image/png;base64,")
    rows = [record.data for record in told["record"].records]
    assert {row["model_version"] for row in rows} == {"1"}


def test_forecasts_that_are_not_what_the_backtest_promised_are_warned_of(lived):
    check = checks(lived(-1))["live_forecasts_keep_the_backtests_promise"]
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert check.description.startswith("the rank IC is -1.000 over ")
    assert "range/rank_ic" in check.metadata


def test_the_drift_of_each_feature_is_told(finished):
    chain, result = finished
    told = checks(result)["features_have_not_drifted"].metadata
    assert told["mean_psi"].value >= 0
    assert len(told["most_drifted"].records) == 10
    assert len(watch_features(chain.settings)) == 2 * len(CATALOG)


def test_the_champion_is_audited_in_every_run(finished):
    _, result = finished
    told = checks(result)["champion_does_not_leak"].metadata["audits"].records
    assert [row.data["audit"] for row in told] == AUDITS
    assert all(row.data["passed"] and row.data["checked"] for row in told)


def test_the_audit_job_runs_every_audit_as_a_check(finished):
    chain, _ = finished
    result = chain.run(job=AUDIT_JOB)
    assert result.success, failure_reason(result)
    assert {name: check.passed for name, check in checks(result).items()} == {
        f"no_leak_by_{audit.replace('-', '_')}": True
        for audit in [*AUDITS, "shuffle", "retraining"]
    }
    told = metadata(result, "leak_audits")
    assert told["versions"].value == ["1"]
    assert {told[name].value for name in ("passed", "not_checked", "failed")} == {8, 0}
    assert [row.data["audit"] for row in told["audits"].records] == [
        *AUDITS,
        *("shuffle", "retraining"),
    ]
    for of in ("", "challenger/"):
        version, run = (told[of + name].value for name in ("registry_version", "mlflow_run"))
        assert version == "models:/flash-attention-trader/1"
        assert run.startswith("runs:/")


def test_a_model_is_audited_on_windows_of_its_own_where_the_stored_ones_are_of_another_kind(
    finished, tmp_path
):
    chain, _ = finished
    settings = chain.settings
    expected = audit_version(settings, "1", train=False)
    aside = settings.windows.rename(tmp_path / "windows")
    try:
        assert audit_version(settings, "1", train=False) == expected
    finally:
        aside.rename(settings.windows)


@pytest.mark.parametrize("unknown", ["7", "nobody"])
def test_a_version_that_is_not_registered_cannot_be_audited(finished, unknown):
    chain, _ = finished
    with pytest.raises(ModelNotRegistered, match=rf"{unknown}"):
        audit_version(chain.settings, unknown)


def test_a_challenger_that_fails_its_audits_is_not_promoted(finished, monkeypatch):
    chain, _ = finished
    registry = Registry(chain.settings)
    registry.client.delete_registered_model_alias("flash-attention-trader", CHAMPION)
    peeking = [
        dataclasses.replace(
            each, sql="coalesce(lead(close) OVER (PARTITION BY symbol ORDER BY start_time), 0)"
        )
        if each.name == "rsi"
        else each
        for each in CATALOG
    ]
    with monkeypatch.context() as patch:
        patch.setattr("flash_pipeline.features.engineering.CATALOG", tuple(peeking))
        with pytest.raises(ModelNotRegistered, match="there is no champion: version 1 fails its"):
            settle_contest(chain.settings, who="Ada", decided_at=1)
    assert registry.at(CHAMPION) is None
    with open_warehouse(chain.settings.warehouse, read_only=True) as connection:
        (row,) = read_promotions(connection, last=1).to_pylist()
    assert (row["action"], row["who"], row["decided_at"]) == ("refused", "Ada", 1)
    assert "rsi before it changed with them" in row["reason"]
    settled = settle_contest(chain.settings, who="Ada", decided_at=2)
    assert settled.champion == registry.require(CHAMPION).version == "1"


@pytest.mark.parametrize("gone", ["dates", "everything"])
def test_a_challenger_that_cannot_be_audited_is_not_promoted(finished, monkeypatch, gone):
    chain, _ = finished
    registry = Registry(chain.settings)
    registry.client.delete_registered_model_alias("flash-attention-trader", CHAMPION)

    def unread(_):
        raise NotEnoughHistory("no candles of BTCUSDT are stored for an audit")

    def audit_labels(*_):
        return not_checked("labels", "the model does not tell its split dates")

    with monkeypatch.context() as patch:
        if gone == "everything":
            patch.setattr(Candles, "read", lambda *_, **__: unread(None))
        else:
            patch.setattr("flash_pipeline.evaluation.audits.suite.audit_labels", audit_labels)
        with pytest.raises(ModelNotRegistered, match="could not be audited for leaks"):
            settle_contest(chain.settings, who="Ada", decided_at=3)
    assert registry.at(CHAMPION) is None
    assert settle_contest(chain.settings, who="Ada", decided_at=4).champion == "1"


def test_baselines_that_all_fail_stop_no_report(finished, monkeypatch):
    chain, _ = finished

    def broken(*_, **__):
        raise OSError("libgomp.so.1 is gone")

    for kind in BASELINES.values():
        monkeypatch.setattr(kind, "fit", broken)
        monkeypatch.setattr(kind, "load", broken)
    result = chain.run(assets=["baselines", "backtest_report"])
    assert "no baseline could be fitted: zero: OSError: libgomp.so.1" in failure_reason(result)
    told = metadata(result, "backtest_report")["assumptions"].data
    assert told["No baseline ridge"] == "OSError: libgomp.so.1 is gone"
