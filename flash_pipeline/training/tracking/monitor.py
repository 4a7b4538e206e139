"""System metrics of a run: processor, memory, disk, network, and the GPU where there is one."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from flash_pipeline.settings import redacted

_log = logging.getLogger(__name__)

SAMPLING_SECONDS = 5
"""A short training has one sample, a long one a curve."""


@contextmanager
def system_metrics(run_id: str) -> Iterator[None]:
    """Log the machine's use to a run during the block, as `system/...`.

    Nothing is logged without psutil, and nothing of the GPU without nvidia-ml-py. What goes wrong
    here, as on a machine that tells no figures of its network, is a warning and stops nothing.
    """
    monitor: Any = None
    if find_spec("psutil") is not None:
        with _unharmed():
            monitor = _started(run_id)
    try:
        yield
    finally:
        if monitor is not None:
            with _unharmed():
                monitor.finish()
                _publish_last(monitor)


@contextmanager
def _unharmed() -> Iterator[None]:
    """Make a warning of any error: the model counts, not the machine's figures."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  (psutil's, the system's, MLflow's)
        _log.warning("the machine's use is not logged: %s", redacted(repr(error)))


def _started(run_id: str) -> Any:  # noqa: ANN401  (MLflow's own, untyped)
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    make: Any = SystemMetricsMonitor
    monitor = make(run_id, sampling_interval=SAMPLING_SECONDS)
    monitor.start()
    return monitor


def _publish_last(monitor: Any) -> None:  # noqa: ANN401  (MLflow's own, untyped)
    """Log the sample that a finished monitor took last: it drops that of a block under 5 s."""
    monitor.publish_metrics(monitor.aggregate_metrics())
    monitor.mlflow_logger.flush()
