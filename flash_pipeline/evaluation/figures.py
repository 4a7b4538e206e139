"""The picture of a forecast: the recent price of each symbol and where the model sees it go."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flash_pipeline.market import Month, iso_utc
from flash_pipeline.storage.klines import KlineStore

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class PricePath:
    """Recent closes of a symbol and its forecast."""

    close_time_T: npt.NDArray[np.int64]
    """Close of each bar, ms since the epoch."""
    close_T: npt.NDArray[np.float64]
    """Close prices."""
    prediction: float
    """Log return over the horizon or its median, probability of a rise, or weight, by the head."""
    bounds: tuple[float, float] | None = None
    """Lower and upper bound of the log return over the horizon, where there are any."""


def draw_forecast(forecast: pa.Table, store: KlineStore, *, bars: int = 168) -> bytes:
    """Draw a forecast over the stored candles that it was made from.

    Parameters
    ----------
    forecast : pa.Table
        As `make_forecast` gives it, at least one row.
    store : KlineStore
        The candles.
    bars : int
        Newest bars shown of each symbol.

    Returns
    -------
    bytes
        A PNG; see `forecast_chart`.
    """
    step = store.interval.milliseconds
    rows = forecast.to_pylist()
    paths = {}
    for row in rows:
        first = Month.containing(row["made_at"] - bars * step)
        candles = store.read(row["symbol"], first, Month.containing(row["made_at"] - step))
        seen = candles.filter(pc.less(candles["start_time"], row["made_at"]))
        seen = seen.slice(max(0, seen.num_rows - bars))
        paths[row["symbol"]] = PricePath(
            seen["start_time"].to_numpy() + step,
            seen["close"].to_numpy(),
            row["prediction"],
            None if row["lower"] is None else (row["lower"], row["upper"]),
        )
    return forecast_chart(
        paths,
        head=rows[0]["head"],
        horizon_ms=rows[0]["horizon"] * step,
        version=rows[0]["model_version"],
        synthetic=rows[0]["synthetic"],
    )


def forecast_chart(
    paths: Mapping[str, PricePath], *, head: str, horizon_ms: int, version: str, synthetic: bool
) -> bytes:
    """Draw each symbol's recent price with its forecast.

    The grey band is one standard deviation of a random walk with the volatility of the bars shown:
    what the forecast has to be seen against. A bar at the horizon reaches from the forecast's lower
    bound to its upper.

    Parameters
    ----------
    paths : mapping of symbol to PricePath
        At least one.
    head : str
        `regression` and `quantile` (its median) draw the predicted price at the horizon; the other
        heads are written only.
    horizon_ms : int
        Milliseconds ahead.
    version : str
        Model version, shown in the title.
    synthetic : bool
        Labels the picture as made from a simulated market.

    Returns
    -------
    bytes
        A PNG, 990 pixels wide.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 1.5 * len(paths)), dpi=110, layout="constrained")
    grid = figure.subplots(len(paths), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (symbol, path) in zip(grid, paths.items(), strict=True):
        _draw(axes, path, head, horizon_ms)
        axes.set_title(f"{symbol}   {_words(head, path.prediction)}", loc="left", fontsize=9)
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    grid[-1].xaxis.set_major_locator(locator)
    grid[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    figure.suptitle(_title(list(paths.values()), horizon_ms, version, synthetic), fontsize=11)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(axes: "Axes", path: PricePath, head: str, horizon_ms: int) -> None:
    """Draw one symbol: its price, the forecast, and what a random walk would do meanwhile."""
    axes.plot(path.close_time_T.astype("datetime64[ms]"), path.close_T, linewidth=1.2)
    now, last = path.close_time_T[-1], path.close_T[-1]
    axes.grid(alpha=0.3)
    if len(path.close_T) > 2:
        bar_ms = path.close_time_T[-1] - path.close_time_T[-2]
        ahead_T = now + np.arange(0, horizon_ms + 1, bar_ms)
        spread_T = np.log(path.close_T[1:] / path.close_T[:-1]).std() * np.sqrt(
            (ahead_T - now) / bar_ms
        )
        axes.fill_between(
            ahead_T.astype("datetime64[ms]"),
            last * np.exp(-spread_T),
            last * np.exp(spread_T),
            color="0.5",
            alpha=0.2,
            linewidth=0,
        )
    if head in ("regression", "quantile"):
        ends = last * np.exp(np.array([0.0, path.prediction]))
        colour = "tab:green" if path.prediction >= 0 else "tab:red"
        times = np.array([now, now + horizon_ms]).astype("datetime64[ms]")
        axes.plot(times, ends, "o-", color=colour, markersize=3)
        if path.bounds is not None:
            lower, upper = last * np.exp(np.array(path.bounds))
            axes.vlines(times[1], lower, upper, color=colour, linewidth=1)


def _words(head: str, prediction: float) -> str:
    if head == "regression":
        return f"{np.expm1(prediction):+.2%}"
    if head == "quantile":
        return f"median {np.expm1(prediction):+.2%}"
    if head == "direction":
        return f"probability of a rise {prediction:.1%}"
    return f"weight {prediction:+.2f}"


def _title(paths: Sequence[PricePath], horizon_ms: int, version: str, synthetic: bool) -> str:
    made_at = iso_utc(max(int(path.close_time_T[-1]) for path in paths))
    label = "SYNTHETIC MARKET · " if synthetic else ""
    return (
        f"{label}forecast of {made_at}, {horizon_ms / 3_600_000:g} h ahead, model version {version}"
    )
