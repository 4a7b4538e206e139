"""All audits of a registered model, on the data that is stored."""

import numpy as np
import numpy.typing as npt

from flash_pipeline.backtest import Costs
from flash_pipeline.errors import BundleMismatch, NotEnoughHistory
from flash_pipeline.evaluation import trading
from flash_pipeline.evaluation.audits.candles import Candles
from flash_pipeline.evaluation.audits.future import audit_future
from flash_pipeline.evaluation.audits.live import audit_live
from flash_pipeline.evaluation.audits.result import AuditResult
from flash_pipeline.evaluation.audits.scaling import audit_scaling
from flash_pipeline.evaluation.audits.shift import audit_shift
from flash_pipeline.evaluation.audits.shuffle import audit_shuffle, small_recipe
from flash_pipeline.evaluation.audits.warmup import EXTRA_BARS, audit_warmup
from flash_pipeline.features import WARMUP_BARS
from flash_pipeline.market import iso_utc
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.recipes import Recipe
from flash_pipeline.windows.blocks import WindowFrame

AROUND = 48
"""Windows on either side of the instant after which the future is spoiled, at most."""

TRADED = 500
"""Newest unseen dates whose signals are moved, at most."""

_HOURS = 3


def audit_model(
    version: str,
    bundle: ModelBundle,
    frame: WindowFrame,
    store: KlineStore,
    recipe: Recipe,
    *,
    costs: Costs | None = None,
    seed: int = 58,
) -> tuple[AuditResult, ...]:
    """Run every audit on one model.

    Parameters
    ----------
    version : str
        Of the model in the registry.
    bundle : ModelBundle
        The model.
    frame : WindowFrame
        The stored windows, of the model's symbols and horizon.
    store : KlineStore
        The candles that the windows were made from.
    recipe : Recipe
        That of the model; a small one of its kind is trained on shuffled labels.
    costs : Costs or None
        Of trades; None for the usual.
    seed : int
        Of everything random, 0 or more: the same data give the same audits.

    Returns
    -------
    tuple of AuditResult
        Future, warm-up, scaling, shuffle, shift, live.

    Raises
    ------
    BundleMismatch
        If the model is of other symbols, another horizon or a longer lookback than the windows.
    NotEnoughHistory
        If fewer windows than needed follow what the model has seen.
    """
    _require_fit(version, bundle, frame)
    rng = np.random.default_rng(seed)
    unseen_N = _unseen(version, bundle, frame)
    candles = Candles.read(store, frame.symbols, *_span(bundle, frame))
    step = frame.interval.milliseconds
    around = min(AROUND, len(unseen_N) // 2)
    cut = int(frame.made_at_N[-1 - around])
    near = (bundle.lookback + WARMUP_BARS + around) * step
    recipe = small_recipe(recipe.with_data(symbols=frame.symbols, horizon=frame.horizon))
    traded_N = unseen_N[-TRADED:]
    hours = frame.made_at_N[unseen_N[np.linspace(0, len(unseen_N) - 2, _HOURS).astype(int)]]
    return (
        audit_future(candles.between(cut - near, cut + around * step), bundle, cut, rng),
        audit_warmup(_newest(candles, bundle, frame), bundle),
        audit_scaling(frame, bundle),
        audit_shuffle(candles.frame(recipe.data.lookback, frame.horizon), recipe, rng),
        audit_shift(
            bundle,
            trading.predict_windows(frame, bundle, traded_N),
            trading.load_prices(frame, store, traded_N),
            costs or Costs(),
            rng,
        ),
        audit_live(candles, frame, version, bundle, sorted({int(hour) for hour in hours})),
    )


def _require_fit(version: str, bundle: ModelBundle, frame: WindowFrame) -> None:
    same = bundle.serves(
        frame.symbols, frame.features, frame.interval.value, bundle.lookback, frame.horizon
    )
    if not same or bundle.lookback > frame.lookback:
        raise BundleMismatch(
            f"version {version} predicts {', '.join(bundle.symbols)} {bundle.horizon} bars ahead "
            f"from {bundle.lookback} bars; the windows have {', '.join(frame.symbols)}, "
            f"{frame.horizon} and {frame.lookback}: materialize window_tensors for it first"
        )


def _unseen(version: str, bundle: ModelBundle, frame: WindowFrame) -> npt.NDArray[np.int64]:
    seen_until = bundle.provenance.seen_until
    unseen_N = np.flatnonzero(frame.made_at_N >= seen_until)
    least = 2 * frame.horizon
    if len(unseen_N) < least:
        raise NotEnoughHistory(
            f"{len(unseen_N)} windows follow what version {version} has seen (to "
            f"{iso_utc(seen_until)}): expected {least} for an audit"
        )
    return unseen_N


def _span(bundle: ModelBundle, frame: WindowFrame) -> tuple[int, int]:
    """Return the span of the candles that the windows and their warm-up come from."""
    before = (WARMUP_BARS + bundle.horizon) * frame.interval.milliseconds
    return int(frame.start_time_T[0]) - before, int(frame.made_at_N[-1])


def _newest(candles: Candles, bundle: ModelBundle, frame: WindowFrame) -> Candles:
    """Return the newest candles, half as many again as the longest history that is tried."""
    longest = WARMUP_BARS + bundle.lookback + max(24, bundle.horizon) + max(EXTRA_BARS)
    end = int(frame.made_at_N[-1])
    return candles.between(end - longest * 3 // 2 * frame.interval.milliseconds, end)
