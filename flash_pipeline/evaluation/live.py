"""The live record: what the forecasts made so far have been worth, beside what was promised.

Shape letters: N instants, S symbols, R resamples.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from flash_pipeline.errors import SchemaMismatch
from flash_pipeline.evaluation.bootstrap import mean_deviations
from flash_pipeline.evaluation.forecasts import FORECASTS_TABLE
from flash_pipeline.evaluation.quality import hit_rate, mean_by_date, rank_ic
from flash_pipeline.evaluation.statistics import Interval as Range
from flash_pipeline.evaluation.statistics import block_length
from flash_pipeline.market import Interval
from flash_pipeline.storage.warehouse import has_table

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Floats = npt.NDArray[np.float64]

LEVEL = 0.95
"""Probability that a model which does as promised raises no alarm, unless asked otherwise."""

WINDOW_DATES = 720
"""Newest scored dates that are judged: a month of hours. Older ones would hide a change."""

_RESAMPLES = 2000
_LEAST_BLOCKS = 2
_SEED = 58

LIVE_TABLE = "live_record"
"""One row per model version and period, all of it computed from the forecasts."""

LIVE_SCHEMA = pa.schema(
    [
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("head", pa.string(), nullable=False),
        pa.field("horizon", pa.int32(), nullable=False),
        pa.field("period_start", pa.int64(), nullable=False),
        pa.field("forecasts", pa.int64(), nullable=False),
        pa.field("rank_ic", pa.float64()),
        pa.field("hit_rate", pa.float64()),
        pa.field("coverage", pa.float64()),
        pa.field("expected_coverage", pa.float64()),
        pa.field("probability_excess", pa.float64()),
    ],
    metadata={
        "period_start": "first instant of the period, ms since the epoch, UTC",
        "forecasts": "scored forecasts of the period, all symbols",
        "rank_ic": "Spearman's correlation over the period, mean of symbols",
        "hit_rate": "share of forecasts on the right side, 0 to 1",
        "coverage": "share of returns between the outer quantiles; null from the other heads",
        "expected_coverage": "what the quantiles' levels promise",
        "probability_excess": "mean probability of a rise less the share of rises; direction only",
    },
)
"""Columns of the live record, one row per model version and period."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Forecasts of one model version whose returns are known, or the same of its backtest."""

    version: str
    """Model version."""
    head: str
    """What it predicts."""
    horizon: int
    """Bars ahead."""
    made_at_N: npt.NDArray[np.int64]
    """Instants, ms since the epoch, ascending."""
    prediction_NS: Floats
    """As the head tells it; NaN where there is none."""
    realised_NS: Floats
    """Log return over the horizon; NaN where there is none."""
    inside_NS: Floats
    """1 where the return lies between the outer quantiles, 0 where not; NaN without them."""
    expected_coverage: float
    """Share that should lie between them; NaN without quantiles."""

    @property
    def signal_NS(self) -> Floats:
        """Predictions whose sign says up or down."""
        return self.prediction_NS - (0.5 if self.head == "direction" else 0.0)

    @property
    def excess_NS(self) -> Floats:
        """Predicted probability of a rise less 1 where it rose; NaN from the other heads."""
        if self.head != "direction":
            return np.full_like(self.prediction_NS, np.nan)
        rose_NS = np.where(np.isnan(self.realised_NS), np.nan, self.realised_NS > 0)
        return self.prediction_NS - rose_NS

    @property
    def figures(self) -> dict[str, float]:
        """Rank IC, hit rate, coverage and probability excess over all instants; NaN if not known.

        See `LIVE_SCHEMA`.
        """
        return {
            "rank_ic": rank_ic(self.prediction_NS, self.realised_NS),
            "hit_rate": hit_rate(self.signal_NS, self.realised_NS),
            "coverage": _mean(self.inside_NS),
            "probability_excess": _mean(self.excess_NS),
        }

    def newest(self, dates: int) -> "Scored":
        """Return the newest instants, so many at most."""
        return self.within(np.arange(len(self.made_at_N)) >= len(self.made_at_N) - dates)

    def within(self, chosen_N: npt.NDArray[np.bool_]) -> "Scored":
        """Return some of the instants."""
        return Scored(
            self.version,
            self.head,
            self.horizon,
            self.made_at_N[chosen_N],
            self.prediction_NS[chosen_N],
            self.realised_NS[chosen_N],
            self.inside_NS[chosen_N],
            self.expected_coverage,
        )


@dataclass(frozen=True)
class LiveCheck:
    """Whether a model does live what its backtest promised."""

    dates: int
    """Instants with a scored forecast that are judged: the newest."""
    live: dict[str, float]
    """Figures of the live forecasts at these."""
    expected: dict[str, Range]
    """What the backtest had, and the range that these live figures should stay in."""
    warnings: tuple[str, ...]
    """One sentence per figure outside of its range; empty where all is as promised."""

    @property
    def passed(self) -> bool:
        """Whether there is nothing to warn of."""
        return not self.warnings


def scored_forecasts(
    connection: "DuckDBPyConnection", interval: Interval, version: str | None = None
) -> list[Scored]:
    """Return the scored forecasts of every model version, horizon and head, oldest version first.

    Parameters
    ----------
    version : str or None
        That version alone; None for all.
    """
    if not has_table(connection, FORECASTS_TABLE):
        return []
    rows = connection.sql(
        f"SELECT * FROM {FORECASTS_TABLE} WHERE realised IS NOT NULL AND interval = $interval "
        "AND ($version IS NULL OR model_version = $version) "
        "ORDER BY try_cast(model_version AS INTEGER), model_version, made_at, symbol",
        params={"interval": interval.value, "version": version},
    ).to_arrow_table()
    groups = rows.to_pandas().groupby(["model_version", "head", "horizon"], sort=False)
    return [_scored(str(key[0]), str(key[1]), int(key[2]), group) for key, group in groups]


def backtest_forecasts(predictions: pa.Table, head: str, horizon: int) -> Scored:
    """Return the predictions of a report in the same form.

    Parameters
    ----------
    predictions : pa.Table
        A report's `predictions.parquet`: `made_at, symbol, prediction, label, model_version`.
    head : str
        What the model predicts.
    horizon : int
        Bars ahead.

    Raises
    ------
    SchemaMismatch
        If a column is missing or there is no row.
    """
    try:
        rows = predictions.select(["made_at", "symbol", "prediction", "label", "model_version"])
        version = str(rows["model_version"][0])
    except (KeyError, IndexError) as error:
        raise SchemaMismatch(
            f"a report's predictions with the columns {predictions.column_names} and "
            f"{predictions.num_rows} rows: expected made_at, symbol, prediction, label and "
            "model_version, and a row"
        ) from error
    frame = rows.rename_columns(["made_at", "symbol", "prediction", "realised", "model_version"])
    return _scored(version, head, horizon, frame.to_pandas())


def record_live(connection: "DuckDBPyConnection", interval: Interval) -> pa.Table:
    """Bring the table of the live record in line with the forecasts; return it.

    It is made anew, so a repetition changes nothing.
    """
    record = live_record(connection, interval)
    connection.register("new_record", record)
    connection.execute(f"CREATE OR REPLACE TABLE {LIVE_TABLE} AS FROM new_record")
    connection.unregister("new_record")
    return record


def live_record(
    connection: "DuckDBPyConnection", interval: Interval, *, period_bars: int = 168
) -> pa.Table:
    """Return realised IC, hit rate and calibration over time, as `LIVE_SCHEMA` says.

    Parameters
    ----------
    period_bars : int
        Length of a period in bars, at least 2: 168 hours are a week. Periods are counted from
        the epoch, so a repetition gives the same rows and the newest one grows.
    """
    rows: list[dict[str, Any]] = []
    step = period_bars * interval.milliseconds
    for scored in scored_forecasts(connection, interval):
        period_N = scored.made_at_N // step
        for period in np.unique(period_N):
            part = scored.within(period_N == period)
            rows.append(
                {
                    "model_version": part.version,
                    "head": part.head,
                    "horizon": part.horizon,
                    "period_start": int(period) * step,
                    "forecasts": int(np.isfinite(part.prediction_NS).sum()),
                    **{name: _known(value) for name, value in part.figures.items()},
                    "expected_coverage": _known(part.expected_coverage),
                }
            )
    return pa.Table.from_pylist(rows, schema=LIVE_SCHEMA)


def check_live(
    live: Scored, backtest: Scored | None, *, level: float = LEVEL, window: int = WINDOW_DATES
) -> LiveCheck:
    """Compare a model's newest live forecasts with its backtest.

    Rank IC and hit rate: two means, each with an error of its own, since the backtest is a sample
    too. The range of a live figure is the backtest's, plus what both may deviate by chance: see
    `bootstrap.mean_deviations`. It is wide for a short record, so a bad week is no alarm.
    Calibration needs no backtest: the live coverage must not deviate from what the quantiles
    promise, nor the predicted probabilities from the rises, by more than chance. The measures
    share the probability of a false alarm (Bonferroni).

    Parameters
    ----------
    live, backtest : Scored
        Of one model version; without a backtest only calibration is checked.
    level : float
        Probability that a model which does as promised raises no alarm in one check, between 0
        and 1.
    window : int
        Newest live dates that are judged, at least 1.

    Returns
    -------
    LiveCheck
        Without a warning where fewer than two blocks of dates are scored: that is too early.
    """
    live = live.newest(window)
    dates = len(live.made_at_N)
    figures = live.figures
    if dates < _LEAST_BLOCKS * block_length(live.horizon, dates):
        return LiveCheck(dates, figures, {}, ())
    promised = {} if backtest is None else _dated(backtest)
    chance = _chances(live, promised)
    outside = (1 - level) / max(1, len(chance))
    ranges = {
        name: Range(value, *(value + np.quantile(chance_R, [outside / 2, 1 - outside / 2])))
        for name, (value, chance_R) in chance.items()
    }
    warnings = tuple(
        f"{_NAMES[name]} is {figures[name]:.3f} over the newest {dates} live dates: expected "
        f"{span.value:.3f}{' as in the backtest' if name in promised else ''}, by chance "
        f"{span.low:.3f} to {span.high:.3f}"
        for name, span in ranges.items()
        if not span.low <= figures[name] <= span.high
    )
    expected = {name: span for name, span in ranges.items() if name in promised}
    return LiveCheck(dates, figures, expected, warnings)


_NAMES = {
    "rank_ic": "the rank IC",
    "hit_rate": "the hit rate",
    "coverage": "the share of returns between the outer quantiles",
    "probability_excess": "the excess of predicted over realised rises",
}


def _scored(version: str, head: str, horizon: int, rows: pd.DataFrame) -> Scored:
    def grid(name: str) -> Floats:
        return wide[name].to_numpy(dtype=np.float64)

    names = [n for n in ("prediction", "realised", "lower", "upper") if n in rows]
    wide = rows.pivot_table(index="made_at", columns="symbol", values=names, dropna=False)
    prediction_NS, realised_NS = grid("prediction"), grid("realised")
    inside_NS, expected = np.full_like(prediction_NS, np.nan), np.nan
    if "upper" in rows and rows["upper"].notna().any():
        inside_NS = ((realised_NS >= grid("lower")) & (realised_NS <= grid("upper"))).astype(float)
        inside_NS[np.isnan(grid("lower") + realised_NS)] = np.nan
        expected = float(rows["coverage"].mean())
    made_at_N = wide.index.to_numpy(dtype=np.int64)
    return Scored(
        version, head, horizon, made_at_N, prediction_NS, realised_NS, inside_NS, expected
    )


def _dated(scored: Scored) -> dict[str, Floats]:
    """Return values per date whose mean is the rank IC and the hit rate of the whole."""
    sign_NS = np.sign(scored.signal_NS) * np.sign(scored.realised_NS)
    hit_NS = np.where(np.isfinite(sign_NS) & (sign_NS != 0), sign_NS > 0, np.nan)
    both_NS = np.isfinite(scored.prediction_NS) & np.isfinite(scored.realised_NS)
    product_NS = np.ones_like(scored.prediction_NS)
    for values_NS in (scored.prediction_NS, scored.realised_NS):
        rank_NS = pd.DataFrame(np.where(both_NS, values_NS, np.nan)).rank().to_numpy()
        centred_NS = rank_NS - np.nanmean(rank_NS, axis=0)
        spread_S = np.sqrt(np.nanmean(centred_NS**2, axis=0))
        product_NS *= np.divide(
            centred_NS, spread_S, out=np.full_like(rank_NS, np.nan), where=spread_S > 0
        )
    return {"rank_ic": mean_by_date(product_NS), "hit_rate": mean_by_date(hit_NS)}


def _chances(live: Scored, promised: dict[str, Floats]) -> dict[str, tuple[float, Floats]]:
    """Return what each known measure should be, and how far off it may be by chance [R]."""
    told = {
        **(_dated(live) if promised else {}),
        "coverage": mean_by_date(live.inside_NS),
        "probability_excess": mean_by_date(live.excess_NS),
    }
    targets = {"coverage": live.expected_coverage, "probability_excess": 0.0}
    rng = np.random.default_rng(_SEED)
    found: dict[str, tuple[float, Floats]] = {}
    for name, values_N in told.items():
        series = [values_N, *([promised[name]] if name in promised else [])]
        if all(np.isfinite(each_N).any() for each_N in series):
            off_R = np.sum([_by_chance(each_N, live.horizon, rng) for each_N in series], axis=0)
            target = float(np.nanmean(promised[name])) if name in promised else targets[name]
            found[name] = target, off_R
    return found


def _by_chance(values_N: Floats, horizon: int, rng: np.random.Generator) -> Floats:
    known_N = values_N[np.isfinite(values_N)]
    block = block_length(horizon, len(known_N))
    return mean_deviations(known_N, block=block, resamples=_RESAMPLES, rng=rng, reach=horizon)


def _mean(values_NS: Floats) -> float:
    return float(np.nanmean(values_NS)) if np.isfinite(values_NS).any() else float("nan")


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None
