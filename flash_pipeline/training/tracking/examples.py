"""An input of the registered model, to show its form: candles that nobody traded."""

import numpy as np
import pandas as pd

from flash_pipeline.market import Interval
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.given_candles import needed_bars


def example_candles(bundle: ModelBundle) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return made-up candles, as many as a prediction takes, and the instant that they fit to.

    They begin where the training did. The same model gives the same ones.
    """
    bars, step = needed_bars(bundle), Interval.parse(bundle.interval).milliseconds
    start_T = bundle.provenance.train_from // step * step + step * np.arange(bars)
    parts = []
    for number, symbol in enumerate(bundle.symbols):
        change_T = np.random.default_rng(number).normal(0, 0.004, bars)
        close_T = (100 * np.exp(np.cumsum(change_T))).round(2)
        open_T = np.concatenate([[100.0], close_T[:-1]])
        parts.append(
            pd.DataFrame(
                {
                    "symbol": symbol,
                    "start_time": start_T,
                    "open": open_T,
                    "high": np.maximum(open_T, close_T),
                    "low": np.minimum(open_T, close_T),
                    "close": close_T,
                    "volume": 1000.0,
                }
            )
        )
    return pd.concat(parts, ignore_index=True), {"as_of": int(start_T[-1]) + step}
