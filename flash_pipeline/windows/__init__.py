"""Windowed tensors: from the features' table to blocks in Parquet that are cut without copies."""

from flash_pipeline.windows.blocks import INDEX_SCHEMA, WindowFrame, read_windows, write_windows
from flash_pipeline.windows.export import export_windows
from flash_pipeline.windows.panel import Panel, panel_from_features
from flash_pipeline.windows.split import Split, SplitConfig, chronological_split

__all__ = [
    "INDEX_SCHEMA",
    "Panel",
    "Split",
    "SplitConfig",
    "WindowFrame",
    "chronological_split",
    "export_windows",
    "panel_from_features",
    "read_windows",
    "write_windows",
]
