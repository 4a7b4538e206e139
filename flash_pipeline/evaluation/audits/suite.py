"""All audits of a registered model, on the data that is stored."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from flash_pipeline.backtest import Costs
from flash_pipeline.errors import BundleMismatch, NotEnoughHistory
from flash_pipeline.evaluation import trading
from flash_pipeline.evaluation.audits.candles import Candles
from flash_pipeline.evaluation.audits.future import audit_future
from flash_pipeline.evaluation.audits.live import audit_live
from flash_pipeline.evaluation.audits.result import AuditResult, not_checked
from flash_pipeline.evaluation.audits.scaling import audit_scaling
from flash_pipeline.evaluation.audits.shift import audit_shift
from flash_pipeline.evaluation.audits.shuffle import audit_shuffle, small_recipe
from flash_pipeline.evaluation.audits.warmup import EXTRA_BARS, audit_warmup
from flash_pipeline.evaluation.fitness import misfit, obsolete
from flash_pipeline.features import SPARSENESS, WARMUP_BARS
from flash_pipeline.market import iso_utc
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.recipes import Recipe
from flash_pipeline.windows.blocks import WindowFrame

AROUND = 48
"""Windows on either side of the instant after which the future is spoiled, at most."""

RECENT = 500
"""Newest unseen dates, at most, whose signals are moved and among which past hours are chosen."""

_HOURS = 3


def audit_model(
    version: str,
    bundle: ModelBundle,
    frame: WindowFrame,
    store: KlineStore,
    recipe: Recipe | None,
    *,
    sessional: Sequence[str] = (),
    costs: Costs | None = None,
    seed: int = 58,
) -> tuple[AuditResult, ...]:
    """Run every audit on one model.

    One for which a symbol has too few candles, such as one that is traded no more, is not checked.

    Parameters
    ----------
    version : str
        Of the model in the registry.
    bundle : ModelBundle
        The model.
    frame : WindowFrame
        Windows of the model's symbols and horizon.
    store : KlineStore
        The candles that the windows were made from.
    recipe : Recipe or None
        That of the model: a small one of its kind is trained on shuffled labels. None leaves this
        audit out, the only one that trains.
    sessional : sequence of str
        Symbols whose market closes; see `refresh_features`.
    costs : Costs or None
        Of trades; None for the usual.
    seed : int
        Of everything random, 0 or more: the same data give the same audits.

    Returns
    -------
    tuple of AuditResult
        Future, warm-up, scaling, shift, live, shuffle.

    Raises
    ------
    BundleMismatch
        If the model is of other symbols, another horizon or a longer lookback than the windows.
    NotEnoughHistory
        If fewer windows than needed follow what the model has seen, or a symbol has no candles.
    """
    _require_fit(version, bundle, frame)
    unseen_N = _unseen(version, bundle, frame)
    candles = Candles.read(store, frame.symbols, *_span(bundle, frame, sessional), sessional)
    step = frame.interval.milliseconds
    around = min(AROUND, len(unseen_N) // 2)
    cut = int(frame.made_at_N[-1 - around])
    near = (bundle.lookback + candles.warmup_bars + around) * step
    recent_N = unseen_N[-RECENT:]
    hours = frame.made_at_N[recent_N[np.linspace(0, len(recent_N) - 2, _HOURS).astype(int)]]

    def future(rng: np.random.Generator) -> AuditResult:
        return audit_future(candles.between(cut - near, cut + around * step), bundle, cut, rng)

    def warm_up(_: np.random.Generator) -> AuditResult:
        return audit_warmup(_newest(candles, bundle, frame), bundle)

    def scaling(_: np.random.Generator) -> AuditResult:
        return audit_scaling(frame, bundle)

    def shift(rng: np.random.Generator) -> AuditResult:
        told = trading.predict_windows(frame, bundle, recent_N)
        prices = trading.load_prices(frame, store, recent_N)
        return audit_shift(bundle, told, prices, costs or Costs(), rng)

    def live(_: np.random.Generator) -> AuditResult:
        return audit_live(candles, frame, version, bundle, sorted({int(hour) for hour in hours}))

    def shuffle(rng: np.random.Generator) -> AuditResult:
        assert recipe is not None
        small = small_recipe(recipe.with_data(symbols=frame.symbols, horizon=frame.horizon))
        return audit_shuffle(candles.frame(small.data.lookback, frame.horizon), small, rng)

    audits = {"future": future, "warm-up": warm_up, "scaling": scaling}
    audits |= {"shift": shift, "live": live}
    if recipe is not None:
        audits["shuffle"] = shuffle
    return tuple(
        _attempted(name, audit, np.random.default_rng([seed, n]))
        for n, (name, audit) in enumerate(audits.items())
    )


def _attempted(
    name: str, audit: Callable[[np.random.Generator], AuditResult], rng: np.random.Generator
) -> AuditResult:
    try:
        return audit(rng)
    except NotEnoughHistory as error:
        return not_checked(name, str(error))


def _require_fit(version: str, bundle: ModelBundle, frame: WindowFrame) -> None:
    why = obsolete(bundle, frame) or misfit(bundle, frame)
    if why:
        raise BundleMismatch(f"version {version} {why}: expected windows of its own kind")


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


def _span(bundle: ModelBundle, frame: WindowFrame, sessional: Sequence[str]) -> tuple[int, int]:
    """Return the span of the candles that the windows and their warm-up come from."""
    sparse = SPARSENESS if set(sessional) & set(frame.symbols) else 1
    before = (sparse * WARMUP_BARS + bundle.horizon) * frame.interval.milliseconds
    return int(frame.start_time_T[0]) - before, int(frame.made_at_N[-1])


def _newest(candles: Candles, bundle: ModelBundle, frame: WindowFrame) -> Candles:
    """Return the newest candles, half as many again as the longest history that is tried."""
    longest = candles.warmup_bars + bundle.lookback + max(24, bundle.horizon) + max(EXTRA_BARS)
    end = int(frame.made_at_N[-1])
    return candles.between(end - longest * 3 // 2 * frame.interval.milliseconds, end)
