"""The machine's figures are no reason for a training to stop."""

import logging

import psutil
import pytest

from flash_pipeline.training.tracking.monitor import system_metrics


def test_a_machine_without_figures_of_its_network_trains_all_the_same(
    tracked, tracked_model, monkeypatch, caplog
):
    monkeypatch.setattr(psutil, "net_io_counters", lambda: None)
    with caplog.at_level(logging.WARNING), system_metrics(tracked_model.run_id):
        reached = True
    assert reached
    assert caplog.text.count("the machine's use is not logged") == 1


def test_the_error_of_the_training_is_the_one_that_is_raised(tracked, monkeypatch, caplog):
    def fail(*_):
        raise OSError("no disk figures")

    monkeypatch.setattr(
        "mlflow.system_metrics.system_metrics_monitor.SystemMetricsMonitor.publish_metrics", fail
    )
    with pytest.raises(RuntimeError, match="diverged"), system_metrics("0" * 32):
        raise RuntimeError("diverged")
    assert "no disk figures" in caplog.text
