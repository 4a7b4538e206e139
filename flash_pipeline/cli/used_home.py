"""What a command that only reads asks first: has a run ever written to this home."""

from flash_pipeline.errors import HomeUnused
from flash_pipeline.settings import Settings


def require_used_home(settings: Settings, *, model: bool = True) -> None:
    """Refuse a home that no run has written to, such as a mistyped one, and make nothing there.

    Parameters
    ----------
    model : bool
        Whether a model is asked for: MLflow's file must be there then, or the warehouse where
        the store is elsewhere. Else anything that a command of ours leaves will do.

    Raises
    ------
    HomeUnused
        With the folder, and what it lacks.
    """
    own = settings.tracking_uri == f"sqlite:///{settings.mlflow_database}"
    needed = settings.mlflow_database if own else settings.warehouse
    others = (settings.dagster_home, settings.klines, settings.reports, settings.warehouse)
    if needed.is_file() or (not model and any(path.exists() for path in others)):
        return
    state = f"has no {needed.name}" if settings.home.is_dir() else "does not exist"
    raise HomeUnused(
        f"FLASH_PIPELINE_HOME={str(settings.home)!r} {state}: expected the home of an earlier run; "
        "correct it, or run the job first (make run)"
    )
