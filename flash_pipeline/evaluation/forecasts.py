"""The record of live forecasts: made once, scored when their horizon has passed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from flash_pipeline.errors import BundleMismatch
from flash_pipeline.evaluation.fitness import misfit, obsolete
from flash_pipeline.evaluation.trading import predict_windows
from flash_pipeline.features import FEATURES_TABLE
from flash_pipeline.market import Interval, iso_utc
from flash_pipeline.storage.warehouse import transaction
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.predictor import Predictions
from flash_pipeline.windows.blocks import WindowFrame

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FORECASTS_TABLE = "forecasts"
"""One row per symbol, instant, horizon and model version."""

_CREATE_SQL = f"""
    CREATE TABLE IF NOT EXISTS {FORECASTS_TABLE} (
        symbol VARCHAR NOT NULL,
        made_at BIGINT NOT NULL,         -- close of the last bar seen, ms since the epoch, UTC
        interval VARCHAR NOT NULL,       -- candle interval by the exchange's code
        horizon INTEGER NOT NULL,        -- bars ahead
        head VARCHAR NOT NULL,           -- regression, quantile, direction or allocation
        prediction DOUBLE NOT NULL,      -- log return, probability of a rise, or weight
        model_version VARCHAR NOT NULL,
        synthetic BOOLEAN NOT NULL,      -- whether a simulator made the candles
        realised DOUBLE,                 -- log return over the horizon, null until it is known
        lower DOUBLE,                    -- lowest quantile; null from the other heads
        upper DOUBLE,                    -- highest quantile; null from the other heads
        coverage DOUBLE                  -- share of returns expected between the two
    )
"""

# Tables from before these columns: the record goes on.
_ADD_SQL = [
    f"ALTER TABLE {FORECASTS_TABLE} ADD COLUMN IF NOT EXISTS {name} DOUBLE"
    for name in ("lower", "upper", "coverage")
]


@dataclass(frozen=True)
class ForecastRecord:
    """What recording a forecast changed."""

    rows: int
    """Forecasts stored for this instant, one per symbol."""
    scored: int
    """Earlier forecasts whose realised return became known now."""


def make_forecast(frame: WindowFrame, version: str, bundle: ModelBundle) -> pa.Table:
    """Predict from the newest window.

    Returns
    -------
    pa.Table
        Columns of the forecasts' table but `realised`, one row per symbol. `made_at` is the close
        of the newest closed bar by the exchange's clock. A symbol whose own newest bar is missing
        gets no row: its last price is not known.

    Raises
    ------
    BundleMismatch
        If the model takes other inputs or predicts another horizon than the windows have, or has
        seen prices that come after them.
    """
    why = obsolete(bundle, frame) or misfit(bundle, frame)
    if why:
        raise BundleMismatch(
            f"champion {version} {why}: restore the configuration, use another "
            "FLASH_PIPELINE_HOME, or promote the challenger by hand (flash_pipeline promote)"
        )
    made_at = int(frame.made_at_N[-1])
    if made_at < bundle.provenance.seen_until:
        raise BundleMismatch(
            f"champion {version} has seen prices to {iso_utc(bundle.provenance.seen_until)}, the "
            f"newest bar closes at {iso_utc(made_at)}: a forecast of the past would be look-ahead; "
            "use another FLASH_PIPELINE_HOME for older months, or promote the challenger by hand "
            "(flash_pipeline promote)"
        )
    newest = np.array([len(frame.anchor_N) - 1])
    told = predict_windows(frame, bundle, newest)
    end = int(frame.offset_N[-1]) + frame.lookback - 1
    fresh_S = frame.valid_BKS[int(frame.block_N[-1]), end]
    rows = [
        {
            "symbol": symbol,
            "made_at": made_at,
            "interval": frame.interval.value,
            "horizon": frame.horizon,
            "head": bundle.config.head,
            "prediction": float(told.value_NS[0, s]),
            "model_version": version,
            "synthetic": frame.synthetic,
            **_outer_quantiles(bundle, told, s),
        }
        for s, (symbol, fresh) in enumerate(zip(frame.symbols, fresh_S, strict=True))
        if fresh
    ]
    return pa.Table.from_pylist(rows, schema=FORECAST_SCHEMA)


def record_forecast(
    connection: "DuckDBPyConnection", forecast: pa.Table, interval: Interval
) -> ForecastRecord:
    """Store a forecast and score the earlier ones whose horizon has passed, in one transaction.

    The same model's forecast of the same instant replaces itself, so a repeated run adds nothing;
    another version's stands beside it.
    """
    with transaction(connection):
        connection.execute(_CREATE_SQL)
        for statement in _ADD_SQL:
            connection.execute(statement)
        connection.register("new_forecast", forecast)
        connection.execute(
            f"DELETE FROM {FORECASTS_TABLE} WHERE EXISTS (SELECT 1 FROM new_forecast AS n WHERE "
            + " AND ".join(f"n.{key} = {FORECASTS_TABLE}.{key}" for key in _KEY)
            + ")"
        )
        connection.execute(
            f"INSERT INTO {FORECASTS_TABLE} ({', '.join(FORECAST_SCHEMA.names)}) "
            f"SELECT {', '.join(FORECAST_SCHEMA.names)} FROM new_forecast"
        )
        connection.unregister("new_forecast")
        scored = score_forecasts(connection, interval)
    return ForecastRecord(forecast.num_rows, scored)


def score_forecasts(connection: "DuckDBPyConnection", interval: Interval) -> int:
    """Enter the realised return of every forecast whose horizon has passed; say how many.

    Both closes come from the features' table. What is scored stays, so a repetition scores
    nothing, and a forecast of which a candle is missing waits for it.
    """
    scored = connection.execute(
        _SCORE_SQL, {"interval": interval.value, "bar_ms": interval.milliseconds}
    ).fetchall()
    return int(scored[0][0])


def latest_forecasts(
    connection: "DuckDBPyConnection",
    symbols: Iterable[str] | None = None,
    made_at: int | None = None,
    version: str | None = None,
) -> pa.Table:
    """Return the newest forecast of each symbol, by its instant and then by model version.

    Parameters
    ----------
    symbols : iterable of str or None
        None for every symbol that has a forecast.
    made_at : int or None
        Only forecasts of this instant, ms since the epoch; None for any.
    version : str or None
        Only forecasts of this model version; None for any.
    """
    wanted = list(symbols) if symbols is not None else None
    return connection.sql(
        f"SELECT * FROM {FORECASTS_TABLE} WHERE ($symbols IS NULL OR "
        "list_contains($symbols, symbol)) AND ($made_at IS NULL OR made_at = $made_at) "
        "AND ($version IS NULL OR model_version = $version) "
        "QUALIFY row_number() OVER (PARTITION BY symbol "
        "ORDER BY made_at DESC, try_cast(model_version AS INTEGER) DESC) = 1 ORDER BY symbol",
        params={"symbols": wanted, "made_at": made_at, "version": version},
    ).to_arrow_table()


def audit_forecasts(connection: "DuckDBPyConnection") -> list[str]:
    """Return what is wrong with the stored forecasts, one sentence each; empty if nothing is."""
    twice = connection.execute(
        f"SELECT {', '.join(_KEY)}, count(*) FROM {FORECASTS_TABLE} GROUP BY ALL "
        "HAVING count(*) > 1 ORDER BY ALL"
    ).fetchall()
    return [f"{row[0]} at {iso_utc(row[1])}, version {row[4]}: {row[5]} rows" for row in twice]


def _outer_quantiles(bundle: ModelBundle, told: Predictions, s: int) -> dict[str, float]:
    """Return the outer quantiles of a symbol's newest forecast; nothing from the other heads."""
    if told.quantiles_NSQ is None:
        return {}
    levels, quantiles_Q = bundle.config.head_options.quantiles, told.quantiles_NSQ[0, s]
    return {
        "lower": float(quantiles_Q[0]),
        "upper": float(quantiles_Q[-1]),
        "coverage": levels[-1] - levels[0],
    }


_KEY = ("symbol", "made_at", "interval", "horizon", "model_version")

FORECAST_SCHEMA = pa.schema(
    [
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("made_at", pa.int64(), nullable=False),
        pa.field("interval", pa.string(), nullable=False),
        pa.field("horizon", pa.int32(), nullable=False),
        pa.field("head", pa.string(), nullable=False),
        pa.field("prediction", pa.float64(), nullable=False),
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("synthetic", pa.bool_(), nullable=False),
        pa.field("lower", pa.float64()),
        pa.field("upper", pa.float64()),
        pa.field("coverage", pa.float64()),
    ],
    metadata={
        "made_at": "close of the last bar seen, ms since the epoch, UTC",
        "interval": "candle interval by the exchange's code",
        "horizon": "bars ahead",
        "prediction": "log return over the horizon (its median from a quantile head), probability "
        "of a rise, or weight, by the head",
        "synthetic": "whether a simulator made the candles",
        "lower, upper": "outer quantiles of the log return; null from the other heads",
        "coverage": "share of returns expected between them; null from the other heads",
    },
)
"""Columns of a new forecast: those of the table but `realised`."""

_SCORE_SQL = f"""
    UPDATE {FORECASTS_TABLE} SET realised = ln(later.close / seen.close)
    FROM {FEATURES_TABLE} AS seen, {FEATURES_TABLE} AS later
    WHERE {FORECASTS_TABLE}.realised IS NULL
        AND {FORECASTS_TABLE}.interval = $interval
        AND seen.symbol = {FORECASTS_TABLE}.symbol AND later.symbol = {FORECASTS_TABLE}.symbol
        AND seen.start_time = {FORECASTS_TABLE}.made_at - $bar_ms
        AND later.start_time = {FORECASTS_TABLE}.made_at + ({FORECASTS_TABLE}.horizon - 1) * $bar_ms
"""
