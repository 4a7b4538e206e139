"""Engineered features: a catalog of formulas, computed in DuckDB SQL window functions."""

from flash_pipeline.features.audit import audit_features
from flash_pipeline.features.catalog import CATALOG, FEATURE_NAMES, WARMUP_BARS, Feature
from flash_pipeline.features.engineering import (
    FEATURES_TABLE,
    SPARSENESS,
    FeatureRefresh,
    newest_start,
    read_features,
    refresh_features,
)

__all__ = [
    "CATALOG",
    "FEATURES_TABLE",
    "FEATURE_NAMES",
    "SPARSENESS",
    "WARMUP_BARS",
    "Feature",
    "FeatureRefresh",
    "audit_features",
    "newest_start",
    "read_features",
    "refresh_features",
]
