"""The whole market's group at a tiny size, from the exchange to the report."""

import json

import dagster as dg
import numpy as np
import pytest

from flash_pipeline.definitions import defs
from flash_pipeline.defs.failures import failure_reason
from flash_pipeline.defs.jobs import PORTFOLIO_JOB
from flash_pipeline.defs.market_resource import MarketResource
from flash_pipeline.errors import InvalidConfig
from flash_pipeline.exchange import Clock, embedded_exchange
from flash_pipeline.exchange.opening import open_market
from flash_pipeline.market import parse_instant
from flash_pipeline.portfolio import MarketPanel
from flash_pipeline.settings import Settings
from flash_pipeline.training.portfolio_session import Decisions
from flash_pipeline.training.tracking.sequences import PORTFOLIO_MODEL, load_sequence_bundle
from flash_pipeline_tests.defs.conftest import serving

TINY = {
    "recipe": "demo",
    "n_assets": 8,
    "months": 2,
    "lookback": 16,
    "horizon": 24,
    "steps": 2,
    "folds": 1,
}
NOW = parse_instant("2024-10-25T10:30:00Z")


def run(instance, **overrides):
    return defs.resolve_job_def(PORTFOLIO_JOB).execute_in_process(
        instance=instance,
        run_config={
            "resources": {"market": {"config": {**TINY, **overrides}}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        raise_on_error=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    home = tmp_path_factory.mktemp("market") / "data"
    market = open_market(seed=3, instruments=24)
    with (
        embedded_exchange(market=market, clock=Clock(NOW, speed=0)) as url,
        serving(home, url),
        dg.DagsterInstance.ephemeral() as instance,
    ):
        result = run(instance)
        assert result.success, failure_reason(result)
        again = run(instance)
        short = run(instance, lookback=2000)
    return Settings(home=home), result, again, short


def metadata(result, name):
    (event,) = result.asset_materializations_for_node(name)
    return {key: value.value for key, value in event.metadata.items()}


def test_the_market_is_chosen_from_all_that_ever_traded(finished):
    settings, result, *_ = finished
    told = metadata(result, "market_panel")
    panel = MarketPanel.load(settings.market_panel)
    assert told["candidates"] == 23  # one is not launched yet
    assert panel.synthetic
    assert panel.member_TA.sum(axis=1).max() == 8
    # Delisted on 14 October, and listed on 2 September 2024: neither is filled.
    leaver, newcomer = panel.symbols.index("SYN003USDT"), panel.symbols.index("SYN006USDT")
    assert np.isnan(panel.close_TA[-1, leaver])
    assert panel.present_TA[:, leaver].any()
    assert np.isnan(panel.close_TA[0, newcomer])
    assert told["gone_at_the_end"] >= 1
    assert told["listed_within"] >= 1


def test_the_checks_pass(finished):
    _, result, *_ = finished
    checks = result.get_asset_check_evaluations()
    assert {check.check_name for check in checks} == {
        "panel_keeps_the_contract",
        "decisions_keep_the_caps",
    }
    assert all(check.passed for check in checks)


def test_the_model_is_registered_and_the_first_is_champion(finished):
    settings, result, *_ = finished
    bundle = load_sequence_bundle(settings, PORTFOLIO_MODEL)
    decisions = Decisions.load(settings.portfolio)
    assert bundle.kind == "portfolio"
    assert tuple(bundle.details["symbols"]) == decisions.symbols
    assert "is the champion" in metadata(result, "portfolio_report")["champion"]
    assert metadata(result, "portfolio_model")["version"] == "1"
    assert metadata(result, "portfolio_model")["tokens_of_a_window"].isdigit(), "text: never varies"


def test_the_report_is_written_and_says_that_the_market_is_synthetic(finished):
    settings, result, *_ = finished
    numbers = json.loads((settings.portfolio_report / "metrics.json").read_text())
    assert numbers["synthetic"]
    assert "synthetic" in metadata(result, "portfolio_report")["verdict"]
    assert "settlement" in numbers["assumptions"]["Funding"]
    assert "SYNTHETIC" in (settings.portfolio_report / "report.html").read_text()


def test_the_same_again_trains_nothing(finished):
    _, _, again, _ = finished
    assert again.success, failure_reason(again)
    told = metadata(again, "portfolio_model")
    assert (told["version"], told["story"]) == ("1", "trained before on this panel")
    assert "is the champion already" in metadata(again, "portfolio_report")["champion"]


def test_a_history_shorter_than_the_window_ends_with_its_reason(finished):
    *_, short = finished
    assert not short.success
    assert "expected at least 2000 with windows of 2000 hours" in failure_reason(short)


def test_overrides_reach_the_recipe():
    made = MarketResource(objective="mean_variance", gross_cap=0.5, asset_cap=0.2, **TINY).resolve()
    assert made.model.head_options.objective == "mean_variance"
    assert (made.model.head_options.gross_cap, made.model.asset_cap) == (0.5, 0.2)
    assert (made.universe.n_assets, made.model.lookback, made.train.steps) == (8, 16, 2)
    with pytest.raises(InvalidConfig, match="objective"):
        MarketResource(objective="luck").resolve()
