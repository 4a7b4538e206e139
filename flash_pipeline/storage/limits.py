"""What a pruning keeps, and for how long, where nobody says otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """A whole number, at least 1."""

    usual: int
    """Where nothing is said."""
    most: int
    """Largest that may be asked for."""
    words: str
    """What it is of, for people."""


_CENTURY = 36_500

LIMITS: Mapping[str, Limit] = {
    "report_days": Limit(30, _CENTURY, "Reports of so many days."),
    "reports": Limit(100, 1_000_000, "Newest reports that stay, however old."),
    "checkpoint_days": Limit(7, _CENTURY, "Checkpoints of unfinished trainings."),
    "model_days": Limit(2, _CENTURY, "Model versions of so many days, with their files."),
    "model_versions": Limit(50, 1_000_000, "Newest versions of each model that stay."),
    "champions": Limit(5, 1_000, "Champions before the present one that stay, to roll back to."),
    "mlflow_run_days": Limit(
        14, _CENTURY, "MLflow runs of so many days; those of versions that stay, stay."
    ),
    "dagster_days": Limit(
        30,
        _CENTURY,
        "Dagster's runs and event logs; the newest of each asset and partition stay.",
    ),
    "tick_days": Limit(14, _CENTURY, "Ticks of schedules and sensors, and their logs."),
    "clock_days": Limit(
        30,
        _CENTURY,
        "This machine's clock may be so many days from the newest candle; beyond, nothing goes.",
    ),
}
"""By the field of the job's configuration, which is also the option of the command."""
