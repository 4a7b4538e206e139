"""Windowed tensors: from the features' table to blocks in Parquet that are cut without copies."""

from flash_pipeline.windows.blocks import INDEX_SCHEMA, WindowFrame, read_windows, write_windows
from flash_pipeline.windows.export import export_windows
from flash_pipeline.windows.folds import Fold, WalkForwardConfig, walk_forward
from flash_pipeline.windows.panel import Panel, panel_from_features
from flash_pipeline.windows.purged_folds import PurgedConfig, backtest_paths, purged_folds
from flash_pipeline.windows.split import Split, SplitConfig, chronological_split, purged

__all__ = [
    "INDEX_SCHEMA",
    "Fold",
    "Panel",
    "PurgedConfig",
    "Split",
    "SplitConfig",
    "WalkForwardConfig",
    "WindowFrame",
    "backtest_paths",
    "chronological_split",
    "export_windows",
    "panel_from_features",
    "purged",
    "purged_folds",
    "read_windows",
    "walk_forward",
    "write_windows",
]
