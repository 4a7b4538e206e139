"""What must hold of a panel and of weights, one sentence for each breach.

Shape letters: N decisions, A assets.
"""

import numpy as np
import numpy.typing as npt

from flash_pipeline.market import iso_utc
from flash_pipeline.portfolio.panel import MarketPanel
from flash_pipeline.portfolio.universe import HOUR_MS, Floats, Times

_ROUNDING = 1e-5
"""Of float32 weights."""


def audit_panel(panel: MarketPanel) -> list[str]:
    """Return what is wrong with a panel; empty if nothing is."""
    problems = []
    if (np.diff(panel.start_time_T) != HOUR_MS).any():
        problems.append("the hours are not consecutive")
    present_TA = panel.present_TA
    for name in ("open", "high", "low", "close", "turnover"):
        values_TA = getattr(panel, f"{name}_TA")
        bad_TA = present_TA & ~(np.isfinite(values_TA) & (values_TA >= 0))
        if bad_TA.any():
            problems.append(
                f"{int(bad_TA.sum())} present cells have no {name}, {_first(panel, bad_TA)}"
            )
    if not np.isfinite(panel.x_TAF[present_TA]).all():
        problems.append("present cells have inputs that are not finite")
    if (present_TA & ~panel.member_TA).any():
        problems.append("cells are present whose asset is no member")
    if not present_TA.any():
        problems.append("no cell is present")
    return problems


def audit_weights(
    panel: MarketPanel,
    start_time_N: Times,
    weights_NA: Floats,
    *,
    asset_cap: float,
    gross_cap: float,
) -> list[str]:
    """Return what is wrong with decided weights; empty if nothing is.

    Parameters
    ----------
    panel : MarketPanel
        That they were decided on.
    start_time_N : array
        Open of the hour at whose close each was decided, ms since the epoch.
    weights_NA : array
        In the order of the panel's assets.
    asset_cap, gross_cap : float
        Largest size of one weight, and of all together.
    """
    problems = []
    if not np.isfinite(weights_NA).all():
        problems.append(f"{int((~np.isfinite(weights_NA)).sum())} weights are not finite")
    size_NA = np.abs(np.nan_to_num(weights_NA))
    if size_NA.max(initial=0.0) > asset_cap + _ROUNDING:
        problems.append(f"a weight of {size_NA.max():.4f} passes the cap of {asset_cap}")
    if size_NA.sum(axis=1).max(initial=0.0) > gross_cap + _ROUNDING:
        problems.append(f"a gross of {size_NA.sum(axis=1).max():.4f} passes the cap of {gross_cap}")
    rows = np.searchsorted(panel.start_time_T, start_time_N)
    if (size_NA[~panel.present_TA[rows]] > 0).any():
        problems.append("an asset that was not there has a weight")
    return problems


def _first(panel: MarketPanel, bad_TA: npt.NDArray[np.bool_]) -> str:
    row, column = np.unravel_index(int(np.argmax(bad_TA)), bad_TA.shape)
    return f"the first of {panel.symbols[column]} at {iso_utc(int(panel.start_time_T[row]))}"
