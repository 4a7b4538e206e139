"""Leak audits: whatever a model or the chain before it knows of the future shows here.

    future     later candles spoiled     no earlier feature or prediction changes by a bit
    warm-up    history cut shorter       the newest features and predictions stay
    scaling    scalers fitted anew       on the training range alone they are the stored ones
    labels     recomputed from candles   labels, their ranges and the size of predictions are right
    shift      signals moved by a bar    the PnL changes, and nothing is earned beforehand; later
                                         predictions changed: no earlier position moves
    live       forecast made at an hour  it is the backtest's prediction for that hour
    shuffle    labels shuffled           a model trained on them predicts nothing, one that is
                                         deliberately given the test range does
    retraining trained again             on the ranges that it claims it is the same model

Each is a function that returns an `AuditResult`: passed, failed, or not checked where the data at
hand cannot tell. `audit_model` runs all of them, `audit_version` on any model of the registry.
"""

from flash_pipeline.evaluation.audits.candles import Candles
from flash_pipeline.evaluation.audits.future import audit_future
from flash_pipeline.evaluation.audits.labels import audit_labels
from flash_pipeline.evaluation.audits.live import audit_live
from flash_pipeline.evaluation.audits.registered import audit_registered, audit_version
from flash_pipeline.evaluation.audits.result import AUDIT_SCHEMA, AuditResult, audits_table
from flash_pipeline.evaluation.audits.retraining import Original, audit_retraining
from flash_pipeline.evaluation.audits.scaling import audit_scaling
from flash_pipeline.evaluation.audits.shift import audit_shift
from flash_pipeline.evaluation.audits.shuffle import audit_shuffle, small_recipe
from flash_pipeline.evaluation.audits.suite import audit_model
from flash_pipeline.evaluation.audits.warmup import audit_warmup

__all__ = [
    "AUDIT_SCHEMA",
    "AuditResult",
    "Candles",
    "Original",
    "audit_future",
    "audit_labels",
    "audit_live",
    "audit_model",
    "audit_registered",
    "audit_retraining",
    "audit_scaling",
    "audit_shift",
    "audit_shuffle",
    "audit_version",
    "audit_warmup",
    "audits_table",
    "small_recipe",
]
