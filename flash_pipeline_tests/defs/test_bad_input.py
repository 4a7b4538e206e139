"""What cannot be used ends in one clear error, and leaves what is stored as it was."""

import os
import socket
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from flash_pipeline.bybit import BybitClient
from flash_pipeline.defs.failures import failure_reason
from flash_pipeline.market import Month
from flash_pipeline.training.tracking import Registry
from flash_pipeline_tests.defs.conftest import MONTHS, small_chain


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A home that holds a finished run."""
    with small_chain(tmp_path_factory.mktemp("bad")) as chain:
        result = chain.run()
        assert result.success, failure_reason(result)
        yield chain


@pytest.fixture(autouse=True)
def isolated_settings():
    """Leave the environment to the chain, which outlives a test."""


def stored(home: Path) -> dict[str, bytes]:
    """Everything but the logs of Dagster and MLflow."""
    kept = ("klines", "windows", "reports", "instruments.parquet", "contest.json")
    found = [path for name in kept for path in [home / name, *sorted((home / name).rglob("*"))]]
    return {str(path): path.read_bytes() for path in found if path.is_file()}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"symbols": ["NOPEUSDT"]}, ["NOPEUSDT", "not listed"]),
        ({"symbols": ["../../etc"]}, ["'../../etc'", "malformed"]),
        ({"symbols": ["btcusdt'; DROP TABLE features"]}, ["DROP TABLE", "malformed"]),
        ({"symbols": []}, ["no symbol"]),
        ({"interval": "61"}, ["'61'", "expected one of 1 3 5"]),
        ({"interval": "W"}, ["'W'"]),
        ({"interval": "15"}, ["holds candles of interval '60'", "'15'"]),
        ({"recipe": "best"}, ["'best'", "demo, seed, full"]),
        ({"n_layers": -4}, ["n_layers", "-4"]),
        ({"head": "oracle"}, ["'oracle'", "regression direction allocation"]),
        ({"attention": "magic"}, ["'magic'"]),
        ({"lookback": 0}, ["lookback is 0"]),
        ({"horizon": -1}, ["horizon is -1"]),
        ({"months": 0}, ["months is 0"]),
        ({"epochs": 0}, ["epochs is 0"]),
        ({"stride": 99}, ["stride=99"]),
        ({"lookback": 100_000}, ["too few", "100000"]),
        ({"start_month": "2024-13"}, ["'2024-13'"]),
        ({"start_month": "2024-04"}, ["start_month 2024-04 comes after the last month"]),
        ({"attention": "flash_attn"}, ["flash_attn"]),
    ],
)
def test_a_bad_value_is_named_and_nothing_stored_changes(chain, overrides, words):
    before = stored(chain.home)
    result = chain.run(**overrides)
    assert not result.success
    for word in words:
        assert word in failure_reason(result)
    assert stored(chain.home) == before


def test_a_month_before_the_listing_is_named(chain):
    before = stored(chain.home)
    result = chain.run((Month(2020, 3), Month(2020, 3)), symbols=["ETHUSDT"])
    assert "month 2020-03 is empty" in failure_reason(result)
    assert "ETHUSDT" in failure_reason(result)
    assert stored(chain.home) == before


def test_a_month_that_has_not_begun_is_named(chain):
    before = stored(chain.home)
    result = chain.run((Month(2024, 4), Month(2024, 5)))
    assert "month 2024-04 has not begun" in failure_reason(result)
    assert stored(chain.home) == before


def test_a_range_that_ends_in_the_future_is_not_recorded_as_materialized(chain):
    result = chain.run((Month(2024, 3), Month(2024, 5)))
    assert "month 2024-05 has not begun" in failure_reason(result)
    assert "2024-05" not in chain.instance.get_materialized_partitions(dg.AssetKey("klines"))


def test_an_mlflow_that_answers_nothing_is_named_before_any_training(chain, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before = stored(chain.home)
    result = chain.run()
    assert f"MLFLOW_TRACKING_URI='http://127.0.0.1:{port}' does not answer" in failure_reason(
        result
    )
    assert stored(chain.home) == before


def test_a_file_store_is_refused_by_its_uri(chain, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///tmp/mlruns")
    assert "file:///tmp/mlruns" in failure_reason(chain.run())


def test_an_exchange_that_answers_nothing_is_named(chain, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    monkeypatch.setenv("FLASH_PIPELINE_BYBIT_URL", f"http://127.0.0.1:{port}")
    patient = partial(BybitClient, sleep=lambda _: None)
    monkeypatch.setattr("flash_pipeline.ingest.sources.BybitClient", patient)
    before = stored(chain.home)
    result = chain.run(exchange={"step_retries": 1, "retry_delay_s": 0.01})
    assert f"127.0.0.1:{port} does not answer" in failure_reason(result)
    assert stored(chain.home) == before


def test_a_home_that_cannot_be_written_is_named(chain, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FLASH_PIPELINE_HOME", str(tmp_path / "file" / "home"))
    assert f"{tmp_path / 'file' / 'home'}" in failure_reason(chain.run())
    assert "cannot be written" in failure_reason(chain.run())


def test_real_candles_are_not_mixed_with_simulated_ones(chain, monkeypatch):
    monkeypatch.setattr("flash_pipeline.bybit.client.BybitClient.is_synthetic", lambda _: False)
    before = stored(chain.home)
    assert "holds simulated candles" in failure_reason(chain.run())
    assert stored(chain.home) == before


def test_a_history_too_short_to_be_judged_is_named_before_any_training(chain):
    versions = registered(chain)
    result = chain.run(end_month="2024-02", months=1)
    failed = {event.step_key for event in result.all_events if event.is_step_failure}
    assert {"trained_model", "baselines"} <= failed
    assert "left for the test range: expected 96" in failure_reason(result)
    assert registered(chain) == versions


def registered(chain):
    """Return how many versions there are, of all models."""
    return len(Registry(chain.settings).client.search_model_versions(""))


def test_the_chain_still_runs_after_all_that(chain):
    assert chain.run(MONTHS).success
    assert os.environ["FLASH_PIPELINE_HOME"] == str(chain.home)
