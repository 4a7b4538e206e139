"""One small chain, run once from candles to forecasts, that many tests look at."""

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from flash_pipeline.definitions import defs
from flash_pipeline.defs.failures import failure_reason
from flash_pipeline.defs.jobs import JOB_NAME
from flash_pipeline.defs.partitions import range_tags
from flash_pipeline.exchange import Clock, embedded_exchange
from flash_pipeline.market import Month, parse_instant
from flash_pipeline.settings import Settings

SMALL = {
    "recipe": "demo",
    "symbols": ["BTCUSDT", "ETHUSDT"],
    "lookback": 32,
    "months": 2,
    "epochs": 1,
}
NOW = "2024-03-20T10:30:00Z"
MONTHS = (Month(2024, 2), Month(2024, 3))


@dataclass
class Chain:
    """A home, an exchange and a Dagster instance."""

    home: Path
    instance: dg.DagsterInstance

    @property
    def settings(self) -> Settings:
        return Settings(home=self.home)

    def run(
        self, span=MONTHS, exchange=None, *, job=JOB_NAME, assets=None, ops=None, **overrides
    ) -> dg.ExecuteInProcessResult:
        """Run a job, or some assets of it, with configurations of assets and of the pipeline."""
        return defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            tags=range_tags(*span),
            asset_selection=None if assets is None else [dg.AssetKey(name) for name in assets],
            run_config={
                "ops": {name: {"config": config} for name, config in (ops or {}).items()},
                "resources": {
                    "pipeline": {"config": {**SMALL, **overrides}},
                    "exchange": {"config": exchange or {}},
                },
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            raise_on_error=False,
        )


@contextmanager
def serving(home: Path, url: str):
    """Point the settings at a home and an exchange for the block."""
    before = dict(os.environ)
    for name in ("FLASH_PIPELINE_MLFLOW_UI", "MLFLOW_TRACKING_URI", "DAGSTER_HOME"):
        os.environ.pop(name, None)
    os.environ["FLASH_PIPELINE_HOME"] = str(home)
    os.environ["FLASH_PIPELINE_BYBIT_URL"] = url
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def small_chain(home: Path, now: str = NOW, market=None):
    clock = Clock(parse_instant(now), speed=0)
    with (
        embedded_exchange(market=market, clock=clock) as url,
        serving(home, url),
        dg.DagsterInstance.ephemeral() as instance,
    ):
        yield Chain(home, instance)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The chain after its first run, and that run's result."""
    with small_chain(tmp_path_factory.mktemp("chain")) as chain:
        result = chain.run()
        assert result.success, failure_reason(result)
        yield chain, result
