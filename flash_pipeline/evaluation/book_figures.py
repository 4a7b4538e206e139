"""The pictures of an order book's report.

Shape letters: L layers, G cells (2 x level + side), T lags, V levels.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from flash_pipeline.evaluation.book_scores import REFERENCE, Score
from flash_pipeline.training.book_results import BookAttention

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BID, ASK = "#2b6a3f", "#b3352f"
_MANY_LAGS = 100
"""Beyond so many, an even scale would press the nearest lags, which weigh most, into a line."""
_LAG_TICKS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_COLOURS = ("#1f4e79", "#b3352f", "#2b6a3f", "#8a6d3b", "#6b4c9a")


def gain_picture(rows: Sequence[Score]) -> bytes:
    """Draw by how much each model's log loss is below that of logistic imbalance, by horizon."""
    figure = _figure(8, 4)
    axes = figure.add_subplot()
    models = [name for name in dict.fromkeys(row.model for row in rows) if name != REFERENCE]
    horizons = list(dict.fromkeys(row.horizon for row in rows))
    for i, name in enumerate(models):
        own = {row.horizon: row for row in rows if row.model == name}
        at = np.arange(len(horizons)) + 0.8 * (i - (len(models) - 1) / 2) / max(1, len(models))
        gain = np.array([own[h].gain for h in horizons])
        low = gain - [own[h].gain_low for h in horizons]
        high = np.array([own[h].gain_high for h in horizons]) - gain
        length = np.maximum([low, high], 0)  # an interval may end beside its value
        axes.errorbar(at, gain, length, fmt="o", capsize=3, label=name, color=_colour(i))
    axes.axhline(0, color="0.4", linewidth=1)
    axes.set_xticks(range(len(horizons)), [f"{h} ahead" if h else "all" for h in horizons])
    axes.set(ylabel="log loss less, nats", title="Better than logistic imbalance, 95 % intervals")
    axes.grid(alpha=0.3, axis="y")
    figure.legend(loc="outside lower center", ncols=len(models))
    return _png(figure)


def reliability_picture(by_model: Mapping[str, Sequence[Mapping[str, float]]]) -> bytes:
    """Draw how often what was forecast came, by the probability it was given."""
    figure = _figure(5.5, 5)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    for i, (name, points) in enumerate(by_model.items()):
        forecast = [point["forecast"] for point in points]
        observed = [point["observed"] for point in points]
        axes.plot(forecast, observed, marker="o", label=name, color=_colour(i))
    axes.set(
        xlabel="probability given", ylabel="share that came", title="Reliability", aspect="equal"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    return _png(figure)


def levels_picture(attention: BookAttention) -> bytes:
    """Draw the attention that each level of each side receives: level by level, all layers."""
    figure = _figure(8, 4)
    axes = figure.add_subplot()
    share_VS = level_shares(attention)
    level_V = np.arange(len(share_VS))
    axes.bar(level_V - 0.2, share_VS[:, 0], 0.4, color=BID, label="bids")
    axes.bar(level_V + 0.2, share_VS[:, 1], 0.4, color=ASK, label="asks")
    axes.axhline(1 / share_VS.size, color="0.4", linewidth=1, linestyle="--", label="even")
    axes.set(
        xlabel="level, 0 is the best price", ylabel="share", title="Attention received by level"
    )
    axes.legend()
    return _png(figure)


def interaction_picture(attention: BookAttention) -> bytes:
    """Draw how much each level asks each, both sides together, beside an even share."""
    matrix_VV = level_matrix(attention)
    figure = _figure(6, 5)
    axes = figure.add_subplot()
    limit = float(np.abs(np.log2(np.maximum(matrix_VV, 1e-3))).max()) or 1.0
    image = axes.imshow(
        np.log2(np.maximum(matrix_VV, 1e-3)), cmap="RdBu_r", vmin=-limit, vmax=limit, origin="lower"
    )
    axes.set(xlabel="level asked", ylabel="level that asks", title="How levels interact")
    figure.colorbar(image, label="attention over an even share, log2")
    return _png(figure)


def lags_picture(attention: BookAttention, cadence_ms: int) -> bytes:
    """Draw how far back each layer looks; of many lags the nearest take the most room."""
    figure = _figure(8, 4)
    axes = figure.add_subplot()
    lags = attention.by_lag_LT.shape[1]
    lag_T = np.arange(lags) * cadence_ms / 1000
    for layer, share_T in enumerate(attention.by_lag_LT):
        axes.plot(lag_T, share_T, marker=".", label=f"layer {layer + 1}", color=_colour(layer))
    axes.axhline(1 / lags, color="0.4", linewidth=1, linestyle="--", label="even")
    if lags > _MANY_LAGS:
        ticks = [tick for tick in _LAG_TICKS if tick < lags]
        axes.set_xscale("symlog", linthresh=10 * cadence_ms / 1000, linscale=1.5)
        axes.set_xlim(left=-0.5 * cadence_ms / 1000)
        axes.set_xticks([tick * cadence_ms / 1000 for tick in ticks])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    axes.set(xlabel="seconds back", ylabel="share", title="How far back it looks")
    axes.grid(alpha=0.3)
    axes.legend()
    return _png(figure)


def level_shares(attention: BookAttention) -> npt.NDArray[np.float64]:
    """Return the share of the attention that each level and side receives, [V, 2]; sums to 1."""
    received_G = attention.by_cell_LGG.astype(np.float64).sum(axis=(0, 1))
    return np.asarray((received_G / received_G.sum()).reshape(-1, 2))


def level_matrix(attention: BookAttention) -> npt.NDArray[np.float64]:
    """Return the attention of each level to each over an even share, [V asking, V asked]."""
    mean_GG = attention.by_cell_LGG.astype(np.float64).mean(axis=0)
    levels = len(mean_GG) // 2
    sum_VV = mean_GG.reshape(levels, 2, levels, 2).sum(axis=(1, 3))
    return np.asarray(sum_VV / sum_VV.sum(axis=1, keepdims=True) * levels)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _colour(i: int) -> str:
    return _COLOURS[i % len(_COLOURS)]
