"""The picture of the live record: what the forecasts have been worth, period by period."""

import io
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_PANELS = (
    ("rank_ic", "rank IC", 0.0),
    ("hit_rate", "hit rate", 0.5),
    ("coverage", "coverage", None),
    ("probability_excess", "predicted less realised rises", 0.0),
)


def draw_live(record: pa.Table) -> bytes:
    """Draw a live record, one line per model version.

    A dashed line marks what chance gives, or what the quantiles promise. A period of which a
    figure is not known has no point; a figure that no period knows has no panel.

    Parameters
    ----------
    record : pa.Table
        As `live_record` gives it, at least one row.

    Returns
    -------
    bytes
        A PNG, 1350 pixels wide.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    rows = record.to_pandas()
    panels = [panel for panel in _PANELS if rows[panel[0]].notna().any()] or list(_PANELS[:1])
    figure = Figure(figsize=(9, 0.8 + 1.6 * len(panels)), dpi=110, layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, title, chance) in zip(grid, panels, strict=True):
        _draw(axes, rows, name)
        if chance is not None:
            axes.axhline(chance, color="0.4", linewidth=0.8, linestyle="--")
        axes.set_title(title, loc="left", fontsize=9)
        axes.grid(alpha=0.3)
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    grid[-1].xaxis.set_major_locator(locator)
    grid[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    grid[0].legend(fontsize=7, loc="upper right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(axes: "Axes", rows: "pd.DataFrame", name: str) -> None:
    for version, own in rows.groupby("model_version", sort=False):
        times = own["period_start"].to_numpy().astype("datetime64[ms]")
        values = own[name].to_numpy(dtype=np.float64)
        (line,) = axes.plot(times, values, "o-", markersize=3, label=f"version {version}")
        if name == "coverage":
            promised = own["expected_coverage"].to_numpy(dtype=np.float64)
            axes.plot(times, promised, color=line.get_color(), linewidth=0.8, linestyle="--")
