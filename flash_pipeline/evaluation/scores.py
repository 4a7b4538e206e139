"""Measures of a walk-forward: over all dates, by symbol and by month, with intervals.

Shape letters: N dates, S symbols, C columns of summands, R draws.

A date is an instant at which predictions are made. The dates of all folds follow one another, so
the bootstrap takes blocks of them; all models are measured on the same draws.
"""

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flash_pipeline.evaluation.quality import pinball_losses
from flash_pipeline.evaluation.statistics import (
    DRAWS,
    Floats,
    Interval,
    Resamples,
    block_length,
    bootstrap,
    correlation_t,
    mean_columns,
    overlap_t,
    ratio,
    stationary_weights,
)
from flash_pipeline.evaluation.walkforward import WalkForwardMeta, describe_predictions
from flash_pipeline.market import Month

ALL = "all"
"""Scope of the measures over all dates and symbols."""

FLAT_SHARE = 1e-3
"""Predictions vary less than this share of their labels: flat. An honest forecast of an hourly
market, of an R2 near 0.001, varies by 3 % of them."""

SCORE_SCHEMA = pa.schema(
    [
        pa.field("model", pa.string(), nullable=False),
        pa.field("scope", pa.string(), nullable=False),
        pa.field("measure", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("dates", pa.int64(), nullable=False),
    ]
)
"""Columns of the scores. `scope` is `all`, a symbol or a month such as `2024-06`; `low` and `high`
are the ends of the 95 % interval, null by month and for t-values; a measure that is not defined is
null."""


@dataclass(frozen=True)
class Outcome:
    """One model's predictions over all dates."""

    model: str
    """Its name."""
    head: str
    """Unit of the predictions: see `walkforward.PREDICTION_SCHEMA`."""
    made_at_N: npt.NDArray[np.int64]
    """Dates, ms since the epoch, ascending."""
    prediction_NS: Floats
    """NaN where there is none."""
    label_NS: Floats
    """NaN where not known."""
    outer_NS2: Floats | None
    """Outer quantiles; None without."""
    levels: tuple[float, float] | None
    """Their levels; None without."""

    @property
    def signal_NS(self) -> Floats:
        """Predictions less what says neither up nor down."""
        return self.prediction_NS - (0.5 if self.head == "direction" else 0.0)

    def at(self, chosen: npt.NDArray[np.bool_ | np.int64]) -> "Outcome":
        """Return some of the dates."""
        outer = None if self.outer_NS2 is None else self.outer_NS2[chosen]
        rows = (self.made_at_N[chosen], self.prediction_NS[chosen], self.label_NS[chosen])
        return Outcome(self.model, self.head, *rows, outer, self.levels)

    def of_symbol(self, place: int) -> "Outcome":
        """Return one symbol."""
        one = slice(place, place + 1)
        outer = None if self.outer_NS2 is None else self.outer_NS2[:, one]
        columns = (self.prediction_NS[:, one], self.label_NS[:, one])
        return Outcome(self.model, self.head, self.made_at_N, *columns, outer, self.levels)


def outcomes(table: pa.Table) -> list[Outcome]:
    """Return the predictions of each model of a walk-forward's table, in its order."""
    meta = describe_predictions(table)
    names = pc.unique(table["model"]).to_pylist()
    return [_outcome(table.filter(pc.equal(table["model"], name)), name, meta) for name in names]


def score(table: pa.Table, *, draws: int = DRAWS, seed: int = 58) -> pa.Table:
    """Measure every model of a walk-forward.

    Parameters
    ----------
    table : pa.Table
        As `walkforward.join_folds` gives it.
    draws, seed
        Of the stationary bootstrap, whose blocks are two horizons long or longer: see
        `statistics.block_length`. Below two blocks of dates there are no intervals.

    Returns
    -------
    pa.Table
        `SCORE_SCHEMA`. Measures: `rank_ic`, Spearman's correlation over time, mean of symbols;
        `cross_sectional_ic`, the mean over dates of the one across symbols, and `icir`, that mean
        over its standard deviation; `rank_ic_t` and `cross_sectional_ic_t`, t-values over
        sqrt(horizon); `hit_rate`; for forecasts of returns `r2_against_zero`; for quantiles
        `pinball`, summed over median and outer levels, and `coverage` between the outer ones.
    """
    meta = describe_predictions(table)
    rows = []
    for outcome in outcomes(table):
        dates = len(outcome.made_at_N)
        resamples = _resamples(dates, block_length(meta.horizon, dates), draws, seed)
        rows += [
            {"model": outcome.model, "scope": scope, "measure": name, "dates": n, **_row(interval)}
            for scope, n, measured in _scopes(outcome, meta, resamples)
            for name, interval in measured.items()
        ]
    return pa.Table.from_pylist(rows, schema=SCORE_SCHEMA)


def measure(outcome: Outcome, horizon: int, resamples: Resamples | None) -> dict[str, Interval]:
    """Return the measures of an outcome: see `score`.

    Parameters
    ----------
    horizon : int
        Bars of a label.
    resamples : Resamples or None
        Draws of the dates; None for values alone.
    """
    prediction_NS, label_NS = outcome.prediction_NS, outcome.label_NS
    hits_N2 = _hits(outcome.signal_NS, label_NS)
    found = {
        "rank_ic": bootstrap(_rank_columns(prediction_NS, label_NS), _mean_correlation, resamples),
        "hit_rate": bootstrap(hits_N2, ratio, resamples),
    }
    pairs = int(np.isfinite(prediction_NS + label_NS).sum(axis=0).min())
    found["rank_ic_t"] = _plain(correlation_t(found["rank_ic"].value, pairs, horizon))
    if label_NS.shape[1] > 1:
        found |= _across(prediction_NS, label_NS, horizon, resamples)
    if outcome.head in ("regression", "quantile"):
        columns_NC = _error_columns(prediction_NS, label_NS)
        found["r2_against_zero"] = bootstrap(columns_NC, _mean_r2, resamples)
    if outcome.outer_NS2 is not None and outcome.levels is not None:
        found |= _quantile_measures(outcome, outcome.outer_NS2, outcome.levels, resamples)
    return found


def rank_ic(outcome: Outcome, horizon: int, *, draws: int = DRAWS, seed: int = 58) -> Interval:
    """Return the rank IC of an outcome alone, with its interval: see `score`."""
    dates = len(outcome.made_at_N)
    resamples = _resamples(dates, block_length(horizon, dates), draws, seed)
    columns_NC = _rank_columns(outcome.prediction_NS, outcome.label_NS)
    return bootstrap(columns_NC, _mean_correlation, resamples)


def flat_predictions(table: pa.Table) -> dict[str, list[str]]:
    """Return the symbols for which a model says nearly the same at all dates, by model.

    Nearly: the predictions' standard deviation within the folds is below `FLAT_SHARE` of the
    labels', or below `FLAT_SHARE` itself for probabilities and weights. Both are taken in the
    model's own scaled unit, since one that says the same at all dates and is scaled by the
    moment's volatility moves as the volatility does. Such a model has learnt nothing that changes
    with time; the baseline `zero` is one by design.
    """
    columns = ["model", "symbol", "fold", "head", "prediction", "label", "unit"]
    rows = table.select(columns).to_pandas()
    unit = rows["unit"].astype(np.float64).fillna(1.0)
    scaled = {name: rows[name].astype(np.float64) / unit for name in ("prediction", "label")}
    by_fold = rows.assign(**scaled).groupby(["model", "symbol", "fold"], sort=False)
    within = by_fold[list(scaled)].var(ddof=0).groupby(["model", "symbol"]).mean() ** 0.5
    found = {}
    for name, head in rows.drop_duplicates("model")[["model", "head"]].itertuples(index=False):
        own = within.loc[name].reindex(describe_predictions(table).symbols)
        usual = own["label"] if head in ("regression", "quantile") else 1.0
        flat = own.index[own["prediction"] < FLAT_SHARE * usual].tolist()
        if flat:
            found[name] = flat
    return found


def information_coefficients(prediction_NS: Floats, label_NS: Floats) -> Floats:
    """Return Spearman's correlation across symbols at each date [N].

    NaN where fewer than two symbols are known, or where all predictions or all labels are equal.
    Ties take mean ranks.
    """
    both_NS = np.isfinite(prediction_NS) & np.isfinite(label_NS)
    ranks = [
        pd.DataFrame(np.where(both_NS, values_NS, np.nan)).rank(axis=1).to_numpy()
        for values_NS in (prediction_NS, label_NS)
    ]
    count_N1 = np.maximum(both_NS.sum(axis=1, keepdims=True), 1)
    centred = [
        np.where(both_NS, r_NS - np.nansum(r_NS, axis=1, keepdims=True) / count_N1, 0.0)
        for r_NS in ranks
    ]
    scale_N = np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1))
    product_N = (centred[0] * centred[1]).sum(axis=1)
    known_N = scale_N > 0
    return np.where(known_N, product_N / np.where(known_N, scale_N, 1.0), np.nan)


def _outcome(rows: pa.Table, name: str, meta: WalkForwardMeta) -> Outcome:
    made_at_N, place_N = np.unique(rows["made_at"].to_numpy(), return_inverse=True)
    symbols = rows["symbol"].combine_chunks().dictionary_encode()
    order = np.array([meta.symbols.index(s) for s in symbols.dictionary.to_pylist()])
    place_S = order[symbols.indices.to_numpy()]

    def grid(column: str) -> Floats:
        values_NS = np.full((len(made_at_N), len(meta.symbols)), np.nan)
        values_NS[place_N, place_S] = rows[column].to_numpy()
        return values_NS

    levels = meta.levels.get(name)
    outer_NS2 = None if levels is None else np.stack([grid("lower"), grid("upper")], axis=-1)
    head = rows["head"][0].as_py()
    return Outcome(name, head, made_at_N, grid("prediction"), grid("label"), outer_NS2, levels)


def _scopes(
    outcome: Outcome, meta: WalkForwardMeta, resamples: Resamples | None
) -> Iterator[tuple[str, int, Mapping[str, Interval]]]:
    """Yield scope, dates and measures: all, each symbol, each month."""
    dates = len(outcome.made_at_N)
    yield ALL, dates, measure(outcome, meta.horizon, resamples)
    for place, symbol in enumerate(meta.symbols):
        yield symbol, dates, measure(outcome.of_symbol(place), meta.horizon, resamples)
    month_N = np.array([str(Month.containing(int(date))) for date in outcome.made_at_N])
    for month in np.unique(month_N):
        part = outcome.at(month_N == month)
        yield str(month), len(part.made_at_N), measure(part, meta.horizon, None)


@functools.lru_cache(maxsize=1)
def _resamples(dates: int, block: int, draws: int, seed: int) -> Resamples | None:
    """Return the draws that all models of equal dates share; None for too few dates."""
    if dates < 2 * block:
        return None
    return stationary_weights(dates, block, draws=draws, seed=seed)


def _rank_columns(prediction_NS: Floats, label_NS: Floats) -> Floats:
    """Return the five sums of each symbol's rank correlation, and its pairs: [N, S * 6].

    Ranks are taken over all dates once, as shares, and not within each draw: near a correlation of
    0 both have the same distribution to first order, and a draw stays a sum.
    """
    both_NS = np.isfinite(prediction_NS) & np.isfinite(label_NS)
    ranks = [
        pd.DataFrame(np.where(both_NS, values_NS, np.nan)).rank(pct=True).to_numpy() - 0.5
        for values_NS in (prediction_NS, label_NS)
    ]
    p_NS, y_NS = (np.where(both_NS, rank_NS, 0.0) for rank_NS in ranks)
    columns = [both_NS, p_NS, y_NS, p_NS**2, y_NS**2, p_NS * y_NS]
    return np.stack(columns, axis=-1).reshape(len(p_NS), -1)


def _mean_correlation(sums_C: Floats) -> Floats:
    """Return the mean of the symbols' correlations, for the columns of `_rank_columns`."""
    n, p, y, pp, yy, py = np.moveaxis(sums_C.reshape(*sums_C.shape[:-1], -1, 6), -1, 0)
    variance = (n * pp - p**2) * (n * yy - y**2)
    # Differences of large sums: what is 0 comes out as the rounding of its summands.
    known = variance > 1e-12 * (n * n) ** 2
    correlation = np.where(known, (n * py - p * y) / np.sqrt(np.where(known, variance, 1.0)), 0.0)
    return np.asarray(correlation.sum(axis=-1) / known.sum(axis=-1))


def _error_columns(prediction_NS: Floats, label_NS: Floats) -> Floats:
    """Return squared errors and squared labels of each symbol: [N, S * 2]."""
    known_NS = np.isfinite(prediction_NS) & np.isfinite(label_NS)
    errors = [(label_NS - prediction_NS) ** 2, label_NS**2]
    columns = [np.where(known_NS, values_NS, 0.0) for values_NS in errors]
    return np.stack(columns, axis=-1).reshape(len(label_NS), -1)


def _mean_r2(sums_C: Floats) -> Floats:
    """Return the mean of the symbols' 1 - errors / labels, for the columns of `_error_columns`."""
    pairs = sums_C.reshape(*sums_C.shape[:-1], -1, 2)
    moved = pairs[..., 1] > 0
    r2 = np.where(moved, 1 - pairs[..., 0] / np.where(moved, pairs[..., 1], 1.0), 0.0)
    return np.asarray(r2.sum(axis=-1) / moved.sum(axis=-1))


def _hits(signal_NS: Floats, label_NS: Floats) -> Floats:
    """Return hits and what counts, of each date: [N, 2]; zeros and NaN do not count."""
    sign_NS = np.sign(signal_NS) * np.sign(label_NS)
    counted_NS = np.isfinite(sign_NS) & (sign_NS != 0)
    hit_NS = counted_NS & (sign_NS > 0)
    return np.stack([hit_NS.sum(axis=1), counted_NS.sum(axis=1)], axis=-1).astype(np.float64)


def _across(
    prediction_NS: Floats, label_NS: Floats, horizon: int, resamples: Resamples | None
) -> dict[str, Interval]:
    ic_N = information_coefficients(prediction_NS, label_NS)
    mean_N2 = mean_columns(ic_N)
    columns_N3 = np.concatenate([mean_N2, mean_N2[:, :1] ** 2], axis=1)
    return {
        "cross_sectional_ic": bootstrap(mean_N2, ratio, resamples),
        "icir": bootstrap(columns_N3, _mean_over_deviation, resamples),
        "cross_sectional_ic_t": _plain(overlap_t(ic_N, horizon)),
    }


def _mean_over_deviation(sums_C: Floats) -> Floats:
    """Return mean / standard deviation, for sums of values, their number and their squares."""
    mean = sums_C[..., 0] / sums_C[..., 1]
    variance = sums_C[..., 2] / sums_C[..., 1] - mean**2
    return np.asarray(np.where(variance > 0, mean / np.sqrt(np.maximum(variance, 0.0)), np.nan))


def _quantile_measures(
    outcome: Outcome,
    outer_NS2: Floats,
    levels: tuple[float, float],
    resamples: Resamples | None,
) -> dict[str, Interval]:
    label_NS = outcome.label_NS
    quantiles_NS3 = np.insert(outer_NS2, 1, outcome.prediction_NS, axis=-1)
    loss_NS = pinball_losses(quantiles_NS3, label_NS, (levels[0], 0.5, levels[1]))
    inside_NS = (label_NS >= outer_NS2[..., 0]) & (label_NS <= outer_NS2[..., 1])
    values = {
        "pinball": loss_NS,
        "coverage": np.where(np.isfinite(label_NS), inside_NS, np.nan),
    }
    found = {}
    for name, values_NS in values.items():
        known_NS = np.isfinite(values_NS)
        columns = [np.where(known_NS, values_NS, 0.0).sum(axis=1), known_NS.sum(axis=1)]
        found[name] = bootstrap(np.stack(columns, axis=-1).astype(float), ratio, resamples)
    return found


def _plain(value: float) -> Interval:
    return Interval(value, math.nan, math.nan)


def _row(interval: Interval) -> dict[str, float | None]:
    values = {"value": interval.value, "low": interval.low, "high": interval.high}
    return {name: None if math.isnan(value) else value for name, value in values.items()}
