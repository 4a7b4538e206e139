"""The features of candles at hand, by the formulas that the warehouse is filled with."""

import pyarrow as pa

from flash_pipeline.features.engineering import valued_sql
from flash_pipeline.market import Interval


def compute_features(candles: pa.Table, interval: Interval) -> pa.Table:
    """Return the catalog's features of some candles, in a database in memory.

    Parameters
    ----------
    candles : pa.Table
        `symbol, start_time, close, volume` in any order, each candle once; of markets that trade
        around the clock.

    Returns
    -------
    pa.Table
        These columns and the catalog's, ordered by start and symbol; null within the warm-up and
        after a gap.
    """
    import duckdb

    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        connection.register("given", candles)
        source = "SELECT symbol, start_time, close, volume FROM given"
        relation = connection.sql(
            f"SELECT * FROM ({valued_sql(source, interval)}) ORDER BY start_time, symbol",
            params={"sessional": []},
        )
        return relation.to_arrow_table()
