"""The audits of a model of the registry, whatever it was trained on."""

from typing import TYPE_CHECKING

from flash_pipeline.errors import (
    InvalidConfig,
    ModelNotRegistered,
    NotEnoughHistory,
    SchemaMismatch,
)
from flash_pipeline.evaluation.audits.candles import Candles
from flash_pipeline.evaluation.audits.result import AuditResult
from flash_pipeline.evaluation.audits.retraining import Original
from flash_pipeline.evaluation.audits.suite import audit_model
from flash_pipeline.evaluation.fitness import misfit, obsolete
from flash_pipeline.features import SPARSENESS, WARMUP_BARS
from flash_pipeline.market import Interval
from flash_pipeline.settings import Settings
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.training.bundle import ModelBundle, UnreadableBundle
from flash_pipeline.training.recipes import DataConfig, Recipe, TrainConfig
from flash_pipeline.training.trainer import Parent
from flash_pipeline.windows.blocks import WindowFrame, read_windows

if TYPE_CHECKING:
    from flash_pipeline.training.tracking import RegisteredModel


def audit_version(
    settings: Settings, version_or_alias: str, *, train: bool = True
) -> tuple[AuditResult, ...]:
    """Run the audits on a version of the registered model.

    On the stored windows where the model predicts from them, else on windows made for it from the
    stored candles of its symbols. Nothing is written below the home.

    Parameters
    ----------
    version_or_alias : str
        A version number, `champion` or `challenger`.
    train : bool
        Whether to run the two audits that train too: a small model on shuffled labels, and the
        model itself again.

    Returns
    -------
    tuple of AuditResult
        As `audit_model` gives them.

    Raises
    ------
    ModelNotRegistered
        If there is no such version or alias.
    BundleMismatch
        If the model cannot be read any more, or is of the other kind of candles.
    NotEnoughHistory
        If a symbol's candles are not stored, or too few follow what the model has seen.
    """
    # Here and not above: MLflow's import takes seconds.
    from flash_pipeline.training.tracking import Registry

    registry = Registry(settings)
    known = version_or_alias.isdigit()
    model = registry.version(version_or_alias) if known else registry.require(version_or_alias)
    return audit_registered(settings, model, train=train)


def audit_registered(
    settings: Settings, model: "RegisteredModel", *, train: bool = True
) -> tuple[AuditResult, ...]:
    """Run the audits on a model that was looked up already: see `audit_version`."""
    bundle = model.bundle
    original = _original(settings, model) if train else ""
    store = KlineStore(settings.klines, Interval.parse(bundle.interval))
    sessional = [symbol for symbol, _ in settings.yahoo_tickers]
    return audit_model(
        model.version,
        bundle,
        _stored_windows(settings, bundle) or _own_windows(store, bundle, sessional),
        store,
        _recipe(bundle) if train else None,
        original=original,
        sessional=sessional,
    )


def _original(settings: Settings, model: "RegisteredModel") -> Original | str:
    """Return what a model was trained by, or why that is not known."""
    from flash_pipeline.training.tracking import Registry

    registry = Registry(settings)
    try:
        recipe = registry.recipe(model)
    except (InvalidConfig, ModelNotRegistered) as error:
        return str(error)
    parent, version = None, model.bundle.provenance.parent
    if version is not None:
        try:
            opened = registry.version(version).opened
        except ModelNotRegistered:
            opened = UnreadableBundle("it is gone")
        if isinstance(opened, ModelBundle):
            parent = Parent(version, opened)
    return Original(recipe, model.tags.get("device", "an unknown device"), parent)


def _stored_windows(settings: Settings, bundle: ModelBundle) -> WindowFrame | None:
    """Return the stored windows; None where there are none that the model predicts from."""
    try:
        frame = read_windows(settings.windows)
    except (NotEnoughHistory, SchemaMismatch):
        return None
    return None if obsolete(bundle, frame) or misfit(bundle, frame) else frame


def _own_windows(store: KlineStore, bundle: ModelBundle, sessional: list[str]) -> WindowFrame:
    """Return windows from before the model's training range to the newest candle."""
    sparse = SPARSENESS if set(sessional) & set(bundle.symbols) else 1
    bars = sparse * WARMUP_BARS + bundle.lookback + bundle.horizon
    newest = [start for s in bundle.symbols if (start := store.newest_start(s)) is not None]
    if len(newest) < len(bundle.symbols):
        raise NotEnoughHistory(
            f"candles of {', '.join(bundle.symbols)} are stored for {len(newest)} of them only: "
            "expected all that the model was trained on"
        )
    step = store.interval.milliseconds
    since, until = bundle.provenance.train_from - bars * step, max(newest) + step
    candles = Candles.read(store, bundle.symbols, since, until, sessional)
    synthetic = bool(store.synthetic())
    return candles.frame(bundle.lookback, bundle.horizon, synthetic=synthetic)


def _recipe(bundle: ModelBundle) -> Recipe:
    """Return a recipe that trains a model of this kind."""
    return Recipe(
        name=bundle.provenance.recipe,
        data=DataConfig(bundle.symbols, bundle.interval, bundle.lookback, bundle.horizon),
        model=bundle.config,
        train=TrainConfig(
            epochs=1,
            warm_epochs=1,
            batch_size=64,
            feature_scaling=bundle.features.kind,
            target_scaling="volatility" if bundle.targets.kind == "volatility" else "rms",
        ),
    )
