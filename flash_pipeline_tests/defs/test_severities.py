"""What a check does when it fails: whether it stops the run, and how red it is."""

from types import SimpleNamespace

import dagster as dg
import pyarrow as pa
import pytest

from flash_pipeline.definitions import defs
from flash_pipeline.defs.assets.audits import _AUDITS, _severity
from flash_pipeline.defs.assets.order_book import BookResource
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.evaluation.audits.result import AuditResult
from flash_pipeline.evaluation.live import LiveCheck
from flash_pipeline.market import Interval, parse_instant
from flash_pipeline.settings import Settings
from flash_pipeline.storage.warehouse import open_warehouse

WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
HOUR = 3_600_000
FOUND = ["something is wrong"]
LEAK = AuditResult("future", passed=False, words="a later candle is seen")
DOUBT = AuditResult("future", passed=False, words="no candles", checked=False)
OLD_WINDOWS = SimpleNamespace(symbols=["BTCUSDT"], anchor_N=[-HOUR], interval=Interval.HOUR_1)
MARKET, FRESHNESS = "flash_pipeline.defs.checks.market.", "flash_pipeline.defs.checks.freshness."
EVALUATION = "flash_pipeline.evaluation."
BOOK, PANEL = "flash_pipeline.defs.assets.order_book.", "flash_pipeline.portfolio.MarketPanel.load"
TORN = SimpleNamespace(symbol="BTCUSDT", gaps=[SimpleNamespace(reason="torn", kind="torn")])
DECISIONS = SimpleNamespace(
    facts={"recipe": {"model": {"asset_cap": 1.0, "head_options": {"gross_cap": 1.0}}}},
    weights={"joint": None},
    start_time_N=None,
)


def late_by(hours):
    """Return finders of a newest candle that is so late, on a clock that stands still."""
    now = parse_instant("2026-03-10T09:30Z")
    newest = Interval.HOUR_1.floor(now) - (hours + 1) * HOUR
    return {FRESHNESS + "_exchange_clock": now, FRESHNESS + "newest_start": newest}


def flat(model):
    return {
        EVALUATION + "walk_plan.load_plan": SimpleNamespace(joined=None),
        EVALUATION + "walkforward.read_predictions": pa.table({}),
        EVALUATION + "scores.flat_predictions": {model: ["BTCUSDT"]},
    }


# Name of the check; whether it stops what is downstream; how grave the finding is; what finds it.
TABLE = [
    ("klines_keep_the_contract", True, ERROR, {MARKET + "audit_klines": FOUND}),
    ("klines_are_complete", False, ERROR, {MARKET + "audit_completeness": FOUND}),
    ("klines_are_plausible", False, WARN, {MARKET + "doubt_klines": FOUND}),
    ("mark_klines_keep_the_contract", False, ERROR, {MARKET + "audit_klines": FOUND}),
    ("mark_klines_are_complete", False, ERROR, {MARKET + "audit_completeness": FOUND}),
    ("funding_keeps_the_contract", False, ERROR, {MARKET + "audit_funding": FOUND}),
    ("funding_keeps_the_contract", False, WARN, {MARKET + "doubt_funding": FOUND}),
    ("features_match_the_candles", True, ERROR, {MARKET + "audit_features": FOUND}),
    ("features_are_fresh", False, WARN, late_by(1)),
    ("features_are_fresh", False, ERROR, late_by(3)),
    ("newest_window_is_fresh", True, ERROR, {"flash_pipeline.windows.read_windows": OLD_WINDOWS}),
    ("champion_does_not_leak", False, ERROR, {EVALUATION + "audits.audit_version": [LEAK]}),
    ("champion_does_not_leak", False, WARN, {EVALUATION + "audits.audit_version": [DOUBT]}),
    ("forecasts_are_unique", False, ERROR, {EVALUATION + "audit_forecasts": FOUND}),
    ("forecasts_are_fresh", False, ERROR, {}),
    (
        "live_forecasts_keep_the_backtests_promise",
        False,
        WARN,
        {EVALUATION + "watch_forecasts": LiveCheck(1, {}, {}, tuple(FOUND))},
    ),
    (
        "features_have_not_drifted",
        False,
        WARN,
        {EVALUATION + "watch_features": (), EVALUATION + "drift_warnings": FOUND},
    ),
    ("books_are_sound", True, ERROR, {BOOK + "read_books": [None], BOOK + "book_problems": FOUND}),
    ("no_delta_is_missing", False, WARN, {BOOK + "read_books": [TORN]}),
    (
        "panel_keeps_the_contract",
        True,
        ERROR,
        {PANEL: None, "flash_pipeline.portfolio.audit.audit_panel": FOUND},
    ),
    (
        "decisions_keep_the_caps",
        False,
        ERROR,
        {
            PANEL: None,
            "flash_pipeline.training.portfolio_session.Decisions.load": DECISIONS,
            "flash_pipeline.portfolio.audit.audit_weights": FOUND,
        },
    ),
    ("predictions_are_not_flat", False, ERROR, flat("transformer")),
    ("predictions_are_not_flat", False, WARN, flat("ridge")),
]
CHECKS = {key.name: key for key in defs.resolve_asset_graph().asset_check_keys}


def definition(name):
    return next(each for each in defs.asset_checks if CHECKS[name] in each.check_keys)


@pytest.fixture
def home():
    """A home whose warehouse holds nothing but one forecast of long ago."""
    settings = Settings.from_environment()
    settings.require_home()
    with open_warehouse(settings.warehouse) as connection:
        connection.execute("CREATE TABLE forecasts AS SELECT 3600000 AS made_at")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(("name", "blocking", "severity", "finders"), TABLE)
def test_a_check_that_fails(monkeypatch, name, blocking, severity, finders):
    for target, found in finders.items():
        monkeypatch.setattr(target, lambda *_, found=found, **__: found)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [definition(name)],
            instance=instance,
            raise_on_error=False,
            resources={
                "pipeline": PipelineResource(recipe="demo", symbols=["BTCUSDT"]),
                "order_book": BookResource(recipe="demo"),
            },
            selection=dg.AssetSelection.checks(CHECKS[name]),
        )
    (evaluation,) = result.get_asset_check_evaluations()
    assert (evaluation.passed, evaluation.severity) == (False, severity)
    assert evaluation.blocking is blocking
    assert evaluation.description


def test_the_table_has_every_check():
    of_audits = {f"no_leak_by_{audit.replace('-', '_')}" for audit in _AUDITS}
    assert {name for name, *_ in TABLE} | of_audits == set(CHECKS)
    graph = defs.resolve_asset_graph()
    assert not any(graph.get_check_spec(CHECKS[name]).blocking for name in of_audits)


def test_an_audit_is_an_error_where_it_leaks_and_a_warning_where_it_cannot_tell():
    assert _severity([DOUBT, LEAK]) is ERROR
    assert _severity([DOUBT]) is WARN
