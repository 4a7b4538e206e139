"""A whole market as one panel: who belongs to it when, what is known of each hour, and its ranges.

klines of all instruments ──► universe (as of each date) ──► MarketPanel ──► walk-forward ranges
"""

from flash_pipeline.portfolio.panel import FEATURES, MarketPanel, build_panel, read_panel
from flash_pipeline.portfolio.ranges import Fold, WalkConfig, walk_forward
from flash_pipeline.portfolio.universe import UniverseConfig, membership, most_traded

__all__ = [
    "FEATURES",
    "Fold",
    "MarketPanel",
    "UniverseConfig",
    "WalkConfig",
    "build_panel",
    "membership",
    "most_traded",
    "read_panel",
    "walk_forward",
]
