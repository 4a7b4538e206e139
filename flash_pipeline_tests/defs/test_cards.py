"""What the UI shows of every asset, check and job before anything is materialized."""

import re
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.metadata import TableMetadataSet

from flash_pipeline.definitions import defs
from flash_pipeline.defs.assets import ASSETS, HOURLY
from flash_pipeline.defs.assets.order_book import BookResource
from flash_pipeline.defs.cards import FRESHNESS
from flash_pipeline.defs.config import CONFIGS
from flash_pipeline.defs.lineage import LINEAGE, ROOTS, feature_inputs
from flash_pipeline.defs.market_resource import MarketResource
from flash_pipeline.defs.partitions import MONTHS
from flash_pipeline.defs.resources import ExchangeResource, PipelineResource
from flash_pipeline.defs.retention import RetentionConfig
from flash_pipeline.features import CATALOG

SPECS = {
    spec.key.to_user_string(): spec
    for spec in sorted(defs.resolve_all_asset_specs(), key=lambda spec: spec.key)
}
CONFIGURED = [
    *CONFIGS.values(),
    *(PipelineResource, ExchangeResource, RetentionConfig, BookResource, MarketResource),
]
FIELDS = [
    pytest.param(config, name, id=f"{config.__name__}.{name}")
    for config in CONFIGURED
    for name in config.model_fields
    if name not in dg.ConfigurableResource.model_fields
]
NUMBERS = re.compile(r"\b(int|float)\b")


@pytest.fixture(params=SPECS)
def spec(request):
    return SPECS[request.param]


def test_it_says_what_it_is_in_a_sentence(spec):
    assert spec.description.rstrip().endswith(".")
    assert len(spec.description.split()) >= 5


def test_a_team_answers_for_it(spec):
    assert spec.owners in (["team:data"], ["team:research"])


def test_it_can_be_found_by_kind_tag_and_group(spec):
    assert spec.kinds
    assert {"domain", "cadence", "source"} <= set(spec.tags)
    assert spec.group_name in {
        *("market_data", "reference", "model", "verdict"),
        *("evaluation", "audits", "order_book", "portfolio"),
    }


def test_its_cadence_is_that_of_the_schedule(spec):
    assert (spec.tags["cadence"] == "hourly") == (spec.key in HOURLY)


def test_tables_name_their_columns_and_where_these_come_from(spec):
    name, shown = spec.key.to_user_string(), TableMetadataSet.extract(spec.metadata)
    assert (shown.column_lineage is not None) == (name in LINEAGE)
    if name in ROOTS:
        assert shown.column_schema.columns


def test_lineage_leads_back_to_what_an_exchange_gave():
    reached, left = set(ROOTS), dict(LINEAGE)
    while left:
        step = {
            name
            for name, columns in left.items()
            if all(set(sources) <= reached for sources in columns.values())
        }
        assert step, f"these come from nowhere: {sorted(left)}"
        reached |= step
        left = {name: columns for name, columns in left.items() if name not in step}


def test_lineage_follows_the_graph():
    graph = defs.resolve_asset_graph()
    for name, columns in LINEAGE.items():
        above = graph.get_ancestor_asset_keys(dg.AssetKey(name))
        named = {dg.AssetKey(each) for sources in columns.values() for each in sources}
        assert named <= above, name


def test_the_inputs_of_a_feature_are_those_of_its_formula():
    inputs = {each.name: feature_inputs(each) for each in CATALOG}
    assert inputs["volume_ma_ratio"] == ("start_time", "volume")
    assert inputs["rsi"] == ("start_time", "close")
    assert all(inputs.values())


def test_what_must_not_be_late_has_a_freshness_policy():
    policies = {name: spec.freshness_policy for name, spec in SPECS.items()}
    assert {name for name, policy in policies.items() if policy} == set(FRESHNESS)
    assert {"features", "forecasts", "champion"} <= set(FRESHNESS)


def test_months_are_backfilled_in_one_run():
    monthly = [asset for asset in ASSETS if asset.partitions_def == MONTHS]
    assert {asset.key.to_user_string() for asset in monthly} == {
        *("klines", "features", "funding", "mark_klines"),
    }
    assert {asset.backfill_policy for asset in monthly} == {dg.BackfillPolicy.single_run()}


def test_every_check_says_what_holds_and_those_that_stop_a_run_are_few():
    checks = {key.name: defs.resolve_asset_graph().get_check_spec(key) for key in _check_keys()}
    assert all(check.description for check in checks.values())
    assert {name for name, check in checks.items() if check.blocking} == {
        "klines_keep_the_contract",
        "features_match_the_candles",
        "newest_window_is_fresh",
        "books_are_sound",
        "panel_keeps_the_contract",
    }


def _check_keys():
    return defs.resolve_asset_graph().asset_check_keys


def test_jobs_say_what_they_do():
    jobs = {job.name: job for job in defs.jobs}
    assert set(jobs) == {
        *("refresh", "full_retrain", "backfill", "evaluate", "audit", "retention"),
        *("order_book", "portfolio"),
    }
    assert all(job.description for job in jobs.values())


@pytest.mark.parametrize(
    "automation", [*(defs.schedules or ()), *(defs.sensors or ())], ids=lambda each: each.name
)
def test_every_schedule_and_sensor_says_what_it_does(automation):
    assert len((automation.description or "").split()) >= 8
    assert automation.description.endswith(".")


def assets_of(job):
    keys = defs.resolve_job_def(job).asset_layer.executable_asset_keys
    return {key.to_user_string() for key in keys}


def test_a_backfill_trains_nothing():
    assert assets_of("backfill") == {"klines", "features", "funding", "mark_klines"}


def test_a_full_retrain_starts_cold_and_ends_with_forecasts():
    assert {"window_tensors", "trained_model", "champion", "forecasts"} <= assets_of("full_retrain")
    told = defs.resolve_job_def("full_retrain").run_config
    assert told["ops"]["trained_model"]["config"] == {"force": True, "warm_start": False}


def test_each_configuration_of_an_asset_is_checked_before_the_first_step():
    configured = {
        asset.key.to_user_string()
        for asset in ASSETS
        if "config" in asset.op.compute_fn.decorated_fn.__annotations__
    }
    assert configured == set(CONFIGS)


@pytest.mark.parametrize(("config", "name"), FIELDS)
def test_a_field_of_the_launchpad_explains_and_bounds_itself(config, name):
    field = config.model_fields[name]
    assert len(field.description.split()) >= 3
    if NUMBERS.search(str(field.annotation)):
        assert field.metadata, "a number without a bound"


def test_no_run_goes_on_for_ever():
    limits = {job.name: int(job.tags["dagster/max_runtime"]) for job in defs.jobs}
    assert limits == {
        "refresh": 3_300,
        "retention": 1_200,
        **dict.fromkeys(("full_retrain", "backfill", "evaluate", "audit"), 43_200),
        **dict.fromkeys(("order_book", "portfolio"), 43_200),
    }


def test_the_graphs_page_names_every_asset_job_and_check():
    page = Path(__file__).parents[2].joinpath("docs/reference/graph.md").read_text()
    names = {*SPECS, *(job.name for job in defs.jobs), *(key.name for key in _check_keys())}
    absent = {name for name in names if f"`{name}`" not in page}
    assert {name for name in absent if not name.startswith("no_leak_by_")} == set()
