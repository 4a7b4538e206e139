"""Checks of the champion and its forecasts: leaks, duplicates, broken promises, drift."""

from typing import Any

import dagster as dg

from flash_pipeline.defs.assets.champion import champion
from flash_pipeline.defs.assets.forecasts import forecasts
from flash_pipeline.defs.assets.live import live_record
from flash_pipeline.defs.checks.outcome import problems_result, warning
from flash_pipeline.defs.metadata import table
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.errors import NotEnoughHistory
from flash_pipeline.storage.warehouse import open_warehouse

_MOST_DRIFTED = 10


@dg.asset_check(asset=champion)
def champion_does_not_leak(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """No leak shows in the audits that train nothing; `leak_audits` has all of them.

    One that could not be checked is a warning.
    """
    from flash_pipeline.evaluation.audits import audit_version, audits_table
    from flash_pipeline.training.tracking import CHAMPION

    try:
        results = audit_version(pipeline.settings(), CHAMPION, train=False)
    except NotEnoughHistory as error:
        return warning([f"not checked: {error}"])
    leaks = [f"{each.audit}: {each.words}" for each in results if each.failed]
    doubts = [f"{each.audit}: {each.words}" for each in results if not each.checked]
    result = problems_result(leaks) if leaks or not doubts else warning(doubts)
    return result.with_metadata({**result.metadata, "audits": table(audits_table(results))})


@dg.asset_check(asset=forecasts, pool="duckdb")
def forecasts_are_unique(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """No model has two forecasts of one symbol at one instant."""
    from flash_pipeline.evaluation import audit_forecasts

    with open_warehouse(pipeline.settings().warehouse, read_only=True) as connection:
        return problems_result(audit_forecasts(connection))


@dg.asset_check(asset=live_record, pool="duckdb")
def live_forecasts_keep_the_backtests_promise(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """The champion's realised IC, hit rate and calibration lie where its backtest puts them."""
    from flash_pipeline.evaluation import watch_forecasts

    check = watch_forecasts(pipeline.settings())
    if check is None:
        return _not_checked("no forecast of the champion is scored yet")
    metadata: dict[str, Any] = {"dates": check.dates}
    metadata |= {f"live/{name}": value for name, value in check.live.items() if value == value}
    for name, span in check.expected.items():
        metadata[f"backtest/{name}"] = span.value
        metadata[f"range/{name}"] = f"{span.low:.4f} to {span.high:.4f}"
    result = warning(check.warnings)
    return result.with_metadata({**result.metadata, **metadata})


@dg.asset_check(asset=live_record)
def features_have_not_drifted(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """The newest month of features looks like the champion's training range."""
    from flash_pipeline.evaluation import drift_warnings, watch_features

    try:
        drifts = watch_features(pipeline.settings())
    except NotEnoughHistory as error:
        return _not_checked(str(error))
    known = sorted((each for each in drifts if each.psi == each.psi), key=lambda each: -each.psi)
    names = ("symbol", "feature", "psi", "usual", "verdict")
    rows = [
        dg.TableRecord({name: getattr(each, name) for name in names})
        for each in known[:_MOST_DRIFTED]
    ]
    result = warning(drift_warnings(drifts))
    mean = sum(each.psi for each in known) / max(1, len(known))
    return result.with_metadata(
        {
            **result.metadata,
            "mean_psi": mean,
            "shifted": sum(each.verdict == "shifted" for each in known),
            "most_drifted": dg.MetadataValue.table(rows),
        }
    )


def _not_checked(why: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True, description=f"not checked: {why}")
