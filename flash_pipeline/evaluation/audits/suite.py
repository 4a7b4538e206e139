"""All audits of a registered model, on the data that is stored."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from flash_pipeline.backtest import Costs
from flash_pipeline.errors import BundleMismatch, NotEnoughHistory
from flash_pipeline.evaluation import trading
from flash_pipeline.evaluation.audits.candles import Candles
from flash_pipeline.evaluation.audits.future import audit_future
from flash_pipeline.evaluation.audits.labels import audit_labels
from flash_pipeline.evaluation.audits.live import audit_live
from flash_pipeline.evaluation.audits.result import AuditResult, not_checked
from flash_pipeline.evaluation.audits.retraining import Original, audit_retraining
from flash_pipeline.evaluation.audits.scaling import audit_scaling
from flash_pipeline.evaluation.audits.shift import audit_shift
from flash_pipeline.evaluation.audits.shuffle import WINDOWS, audit_shuffle, small_recipe
from flash_pipeline.evaluation.audits.warmup import EXTRA_BARS, audit_warmup
from flash_pipeline.evaluation.fitness import misfit, obsolete
from flash_pipeline.features import SPARSENESS, WARMUP_BARS
from flash_pipeline.market import iso_utc
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.recipes import Recipe
from flash_pipeline.training.runtime import fitting_threads
from flash_pipeline.windows.blocks import WindowFrame

AROUND = 48
"""Windows on either side of the instant after which the future is spoiled, at most."""

RECENT = 500
"""Newest unseen dates, at most, whose signals are moved and among which past hours are chosen."""

_HOURS = 3

_Audit = Callable[[np.random.Generator], AuditResult]
_Whole = Callable[[], tuple[Candles, WindowFrame]]


def audit_model(
    version: str,
    bundle: ModelBundle,
    frame: WindowFrame,
    store: KlineStore,
    recipe: Recipe | None,
    *,
    original: Original | str = "its recipe is not known",
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
        That of the model: a small one of its kind is trained on shuffled labels. None leaves out
        the two audits that train.
    original : Original or str
        What the model was trained by, to train it again; or why that is not known.
    sessional : sequence of str
        Symbols whose market closes; see `refresh_features`.
    costs : Costs or None
        Of trades; None for the usual.
    seed : int
        Of everything random, 0 or more: the same data give the same audits.

    Returns
    -------
    tuple of AuditResult
        Future, warm-up, scaling, labels, shift, live, shuffle, retraining.

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

    whole = functools.cache(lambda: _from_training_on(candles, frame, store, bundle))

    def shift(rng: np.random.Generator) -> AuditResult:
        told = trading.predict_windows(frame, bundle, recent_N)
        prices = trading.load_prices(frame, store, recent_N)
        return audit_shift(bundle, told, prices, costs or Costs(), rng)

    def live(_: np.random.Generator) -> AuditResult:
        return audit_live(candles, frame, version, bundle, sorted({int(hour) for hour in hours}))

    audits: dict[str, _Audit] = {"future": future, "warm-up": warm_up}
    audits |= _of_training(whole, bundle)
    audits |= {"shift": shift, "live": live}
    if recipe is not None:
        audits |= _that_train(whole, bundle, recipe, original)
    with fitting_threads(bundle.config.d_model):
        return tuple(
            _attempted(name, audit, np.random.default_rng([seed, n]))
            for n, (name, audit) in enumerate(audits.items())
        )


def _attempted(name: str, audit: _Audit, rng: np.random.Generator) -> AuditResult:
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


def _of_training(whole: _Whole, bundle: ModelBundle) -> dict[str, _Audit]:
    """Return the audits of what the model was fitted on."""
    return {
        "scaling": lambda _: audit_scaling(whole()[1], bundle),
        "labels": lambda _: audit_labels(*whole(), bundle),
    }


def _that_train(
    whole: _Whole, bundle: ModelBundle, recipe: Recipe, original: Original | str
) -> dict[str, _Audit]:
    """Return the audits that train a model."""

    def shuffle(rng: np.random.Generator) -> AuditResult:
        candles, frame = whole()
        small = small_recipe(recipe.with_data(symbols=frame.symbols, horizon=frame.horizon))
        bars = WINDOWS + small.data.lookback + frame.horizon + candles.warmup_bars
        end = int(frame.made_at_N[-1])
        newest = candles.between(end - bars * frame.interval.milliseconds, end)
        return audit_shuffle(newest.frame(small.data.lookback, frame.horizon), small, rng)

    def retraining(_: np.random.Generator) -> AuditResult:
        if isinstance(original, str):
            return not_checked("retraining", original)
        return audit_retraining(whole()[1], bundle, original)

    return {"shuffle": shuffle, "retraining": retraining}


def _from_training_on(
    candles: Candles, frame: WindowFrame, store: KlineStore, bundle: ModelBundle
) -> tuple[Candles, WindowFrame]:
    """Return candles and windows that reach back over the model's training range.

    Those at hand where they do; else they are made of the stored candles, however old the model.
    """
    step = frame.interval.milliseconds
    first = bundle.provenance.train_from - (bundle.lookback - 1) * step
    if frame.start_time_T[0] <= first:
        return candles, frame
    since = first - (candles.warmup_bars + bundle.horizon) * step
    older = Candles.read(store, frame.symbols, since, int(frame.made_at_N[-1]), candles.sessional)
    windows = older.frame(bundle.lookback, bundle.horizon, synthetic=frame.synthetic)
    return older, windows


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
