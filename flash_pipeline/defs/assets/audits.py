"""The leak audits of the models in use, on request: they train a small model each."""

from typing import TYPE_CHECKING

import dagster as dg

from flash_pipeline.defs.assets.champion import champion
from flash_pipeline.defs.resources import PipelineResource

if TYPE_CHECKING:
    from flash_pipeline.evaluation.audits import AuditResult

GROUP = "audits"
"""Group of this asset, which no scheduled run materializes."""

_AUDITS = {
    "future": "later candles spoiled: no earlier feature or prediction changes by a bit",
    "warm-up": "history cut shorter: the newest features and predictions stay",
    "scaling": "scalers fitted anew on the training range alone are the stored ones",
    "labels": "recomputed from the candles: labels, their ranges, the scale of predictions",
    "shift": "signals moved by a bar: the PnL changes, nothing is earned or known beforehand",
    "live": "a forecast made at an hour is the backtest's prediction for that hour",
    "shuffle": "a model trained on shuffled labels predicts nothing, a control that cheats does",
    "retraining": "trained again on the ranges that it claims it is the same model",
}


def _severity(results: "list[AuditResult]") -> dg.AssetCheckSeverity:
    """Return an error for a leak, a warning for what could not be checked."""
    leak = any(each.failed for each in results)
    return dg.AssetCheckSeverity.ERROR if leak else dg.AssetCheckSeverity.WARN


def _check_name(audit: str) -> str:
    return f"no_leak_by_{audit.replace('-', '_')}"


@dg.asset(
    deps=[champion],
    group_name=GROUP,
    kinds={"pytorch", "duckdb"},
    pool="training",
    check_specs=[
        dg.AssetCheckSpec(_check_name(audit), asset="leak_audits", description=words)
        for audit, words in _AUDITS.items()
    ],
)
def leak_audits(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> dg.MaterializeResult:
    """Every leak audit of the champion and the challenger; not part of the hourly run."""
    from flash_pipeline.evaluation.audits import audit_registered
    from flash_pipeline.training.tracking import CHALLENGER, CHAMPION, Registry

    settings = pipeline.settings()
    registry = Registry(settings)
    models = {model.version: model for model in map(registry.require, (CHAMPION, CHALLENGER))}
    found = [
        (version, each)
        for version, model in models.items()
        for each in audit_registered(settings, model)
    ]
    for version, each in found:
        context.log.info(f"leak_audits: version {version}, {each.audit}: {each.words}")
    names = ("audit", "passed", "checked", "words")
    rows = [
        dg.TableRecord({"version": version, **{name: getattr(each, name) for name in names}})
        for version, each in found
    ]
    return dg.MaterializeResult(
        metadata={
            "versions": dg.MetadataValue.json(list(models)),
            "passed": sum(each.passed for _, each in found),
            "not_checked": sum(not each.checked for _, each in found),
            "failed": sum(each.failed for _, each in found),
            "audits": dg.MetadataValue.table(rows),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=_check_name(audit),
                passed=all(each.passed for _, each in found if each.audit == audit),
                severity=_severity([each for _, each in found if each.audit == audit]),
                description="; ".join(
                    f"version {version}: {each.words}"
                    for version, each in found
                    if each.audit == audit
                ),
            )
            for audit in _AUDITS
        ],
    )
