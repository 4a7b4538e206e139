"""The champion watched: its forecasts against its backtest, its inputs against its training."""

from flash_pipeline.errors import BundleMismatch
from flash_pipeline.evaluation.drift import FeatureDrift, feature_drift
from flash_pipeline.evaluation.fitness import misfit, obsolete
from flash_pipeline.evaluation.live import (
    LiveCheck,
    backtest_forecasts,
    check_live,
    scored_forecasts,
)
from flash_pipeline.market import Interval
from flash_pipeline.settings import Settings
from flash_pipeline.storage.warehouse import open_warehouse
from flash_pipeline.windows.blocks import read_windows


def watch_forecasts(settings: Settings) -> LiveCheck | None:
    """Compare the champion's live record with its backtest: see `check_live`.

    Returns
    -------
    LiveCheck or None
        None where no forecast of the champion is scored yet.

    Raises
    ------
    ModelNotRegistered
        If there is no champion.
    """
    # Here and not above: MLflow's import takes seconds.
    from flash_pipeline.training.tracking import CHAMPION, Registry, report_predictions

    registry = Registry(settings)
    champion = registry.require(CHAMPION)
    bundle = champion.bundle
    with open_warehouse(settings.warehouse, read_only=True) as connection:
        found = scored_forecasts(connection, Interval.parse(bundle.interval), champion.version)
    live = next((each for each in found if each.horizon == bundle.horizon), None)
    if live is None:
        return None
    told = report_predictions(registry, champion)
    promised = None
    if told is not None and told.num_rows:
        promised = backtest_forecasts(told, bundle.config.head, bundle.horizon)
    return check_live(live, promised)


def watch_features(settings: Settings) -> tuple[FeatureDrift, ...]:
    """Compare the newest windows with the champion's training range: see `feature_drift`.

    Raises
    ------
    ModelNotRegistered
        If there is no champion.
    BundleMismatch
        If the champion does not predict from the stored windows.
    NotEnoughHistory
        As for `feature_drift`.
    """
    from flash_pipeline.training.tracking import CHAMPION, Registry

    champion = Registry(settings).require(CHAMPION)
    bundle, frame = champion.bundle, read_windows(settings.windows)
    why = obsolete(bundle, frame) or misfit(bundle, frame)
    if why:
        raise BundleMismatch(f"champion {champion.version} {why}")
    return feature_drift(frame, bundle.provenance)
