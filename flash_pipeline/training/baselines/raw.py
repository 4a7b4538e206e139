"""From single windows to the panel that baselines predict from.

Shape letters: N windows, L bars of a window, S symbols, F features, I = S * F inputs, T = N * L
bars, B blocks, K bars of a block.
"""

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import BundleMismatch
from flash_pipeline.market import Interval
from flash_pipeline.training.baselines.base import Inputs
from flash_pipeline.training.scaler import Floats
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Positions


def frame_of(
    inputs: Inputs, x_NLI: Floats, made_at_N: npt.NDArray[np.int64]
) -> tuple[WindowFrame, Positions]:
    """Lay windows end to end, and say where in that each of them is.

    No baseline looks further back than its lookback, so none sees the window before its own.

    Parameters
    ----------
    inputs : Inputs
        What the baseline takes.
    x_NLI : array [N, lookback, symbols * features], float32
        Features, unscaled, symbol by symbol; NaN where unknown. At least one window.
    made_at_N : array [N]
        Close of each window's last bar, ms since the epoch.

    Raises
    ------
    BundleMismatch
        If the arrays have other shapes; the message states those expected.
    """
    symbols, features = len(inputs.symbols), len(inputs.features)
    bars, expected = inputs.lookback, (inputs.lookback, symbols * features)
    if x_NLI.ndim != 3 or x_NLI.shape[1:] != expected or not len(x_NLI):
        raise BundleMismatch(
            f"windows of shape {x_NLI.shape}: expected (n, {expected[0]}, {expected[1]}), "
            f"{symbols} symbols x {features} features on the last axis"
        )
    if made_at_N.shape != x_NLI.shape[:1]:
        raise BundleMismatch(
            f"made_at of shape {made_at_N.shape} for {len(x_NLI)} windows: expected the close of "
            "each window's last bar, ms since the epoch"
        )
    count, interval = len(x_NLI), Interval.parse(inputs.interval)
    total = count * bars
    x_TSF = x_NLI.reshape(total, symbols, features)
    bar_BK = np.arange(0, total, bars)[:, None] + np.arange(2 * bars - 1)
    x_BKSF = x_TSF[np.minimum(bar_BK, total - 1)]
    first_N = np.arange(total - bars + 1)
    window_N, back_N = np.divmod(first_N + bars - 1, bars)
    anchor_N = made_at_N[window_N] - (bars - back_N) * interval.milliseconds
    frame = WindowFrame(
        symbols=inputs.symbols,
        features=inputs.features,
        interval=interval,
        lookback=bars,
        horizon=inputs.horizon,
        stride=bars,
        synthetic=False,
        snapshot="",
        x_BKSF=x_BKSF,
        y_BKS=np.full(x_BKSF.shape[:3], np.nan, np.float32),
        valid_BKS=np.isfinite(x_BKSF).all(axis=-1),
        anchor_N=anchor_N,
        block_N=(first_N // bars).astype(np.int32),
        offset_N=(first_N % bars).astype(np.int32),
        label_end_N=anchor_N + (inputs.horizon + 1) * interval.milliseconds,
    )
    return frame, np.arange(count) * bars
