"""Experiments and the model registry in MLflow; nothing else in the project imports it."""

from flash_pipeline.training.tracking.registry import (
    CHALLENGER,
    CHAMPION,
    MODEL_NAME,
    RIVAL_TAG,
    RegisteredModel,
    Registry,
)
from flash_pipeline.training.tracking.reports import report_predictions
from flash_pipeline.training.tracking.runs import TrackedTraining, track_training

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "MODEL_NAME",
    "RIVAL_TAG",
    "RegisteredModel",
    "Registry",
    "TrackedTraining",
    "report_predictions",
    "track_training",
]
