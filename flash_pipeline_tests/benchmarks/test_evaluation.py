"""The programs that evaluate without the graph."""

import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import leak_demo, recorded, walkforward
from flash_pipeline.errors import NotEnoughHistory
from flash_pipeline.evaluation.statistics import Interval
from flash_pipeline.features import FEATURE_NAMES, read_features, refresh_features
from flash_pipeline.market import CANDLE_SCHEMA, Month
from flash_pipeline.market import Interval as BarInterval
from flash_pipeline.storage.klines import KlineStore

HOUR_MS = 3_600_000
FIRST_MS = Month(2024, 1).time_range.start
SYMBOLS = ("BTCUSDT", "ETHUSDT")


def candles(bars, seed):
    rng = np.random.default_rng(seed)
    close_T = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, bars)))
    open_T = np.concatenate([[100.0], close_T[:-1]])
    high_T, low_T = np.maximum(open_T, close_T), np.minimum(open_T, close_T)
    columns = [FIRST_MS + HOUR_MS * np.arange(bars), open_T, high_T, low_T, close_T]
    columns += [rng.lognormal(size=bars), close_T]
    return pa.table(dict(zip(CANDLE_SCHEMA.names, columns, strict=True))).cast(CANDLE_SCHEMA)


@pytest.fixture
def market(tmp_path):
    """A folder of recorded candles: 700 hours of two symbols."""
    folder = tmp_path / "market"
    folder.mkdir()
    for seed, symbol in enumerate(SYMBOLS):
        pq.write_table(candles(700, seed), folder / f"{symbol}_60.parquet")
    return folder


@pytest.fixture
def run(monkeypatch, capsys):
    """Return a function that runs a program with arguments and returns what it printed."""

    def run(program, *arguments):
        monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
        program.main()
        return capsys.readouterr().out

    return run


def test_the_features_of_recorded_candles_are_the_warehouses(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    month = Month(2024, 1)
    whole = candles(700, 0)
    rows = np.delete(np.arange(700), [300, 301])
    store = KlineStore(tmp_path / "klines", BarInterval.HOUR_1)
    store.write_month("BTCUSDT", month, whole.take(rows), synthetic=True)
    pq.write_table(whole.take(rows), tmp_path / "BTCUSDT_60.parquet")
    with duckdb.connect() as connection:
        refresh_features(connection, store, ["BTCUSDT"], month, month)
        stored = read_features(connection, ["BTCUSDT"], 0)
    panel = recorded.recorded_panel({"BTCUSDT": tmp_path / "BTCUSDT_60.parquet"})
    bars = (stored["start_time"].to_numpy() - panel.start_time_T[0]) // HOUR_MS
    inside = bars >= 0
    for f, name in enumerate(FEATURE_NAMES):
        expected = stored[name].to_numpy()[inside]
        found = panel.x_TSF[bars[inside], 0, f]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7, err_msg=name)
    assert np.isnan(panel.x_TSF[300 - 25 + 1, 0]).any()


def test_windows_come_from_the_folder_given_else_from_the_variable_else_from_the_home(
    market, stored_windows, monkeypatch, tmp_path
):
    frame, source = recorded.chosen_windows(market, 16, 4)
    assert (frame.symbols, frame.horizon, source) == (SYMBOLS, 4, "recorded candles")
    monkeypatch.setenv("FLASH_PIPELINE_REAL_DATA", str(market))
    assert recorded.chosen_windows(None, 16, 4)[1] == "recorded candles"
    monkeypatch.delenv("FLASH_PIPELINE_REAL_DATA")
    with pytest.raises(NotEnoughHistory, match="or give a folder of recorded candles by --data"):
        recorded.chosen_windows(None, 16, 4)
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    stored_windows.rename(home / "windows")
    frame, source = recorded.chosen_windows(None, 16, 4)
    assert (frame.horizon, source) == (24, "stored windows (simulated candles)")


def test_a_folder_without_candles_is_refused(tmp_path):
    with pytest.raises(NotEnoughHistory, match=r"holds no file such as BTCUSDT_60.parquet"):
        recorded.recorded_windows(tmp_path, 16, 4)


def test_the_leak_demo_shows_a_skill_that_only_shuffled_folds_find(
    market, run, monkeypatch, tmp_path
):
    monkeypatch.setattr(leak_demo, "LOOKBACK", 24)
    monkeypatch.delenv("FLASH_PIPELINE_REAL_DATA", raising=False)
    printed = run(leak_demo, "--data", market, "--json", tmp_path / "leak.json")
    rows = json.loads((tmp_path / "leak.json").read_text(encoding="utf-8"))
    assert rows["shuffled folds"]["rank_ic"]["value"] > 0.3
    assert rows["purged walk-forward"]["rank_ic"]["value"] < 0.15
    for way in ("shuffled folds", "purged k-fold", "purged walk-forward"):
        assert f"\n{way}" in printed
    assert "Shuffled folds report a rank IC of" in printed


def test_the_demo_says_where_something_is_left(stored_windows):
    frame = recorded.read_windows(stored_windows)

    def words(low, high):
        results = {way: {"rank_ic": Interval(0.1, low, high)} for way in ("shuffled folds",)}
        results["purged walk-forward"] = results["shuffled folds"]
        return leak_demo.in_words(results, frame)

    assert "is no evidence of any skill" in words(-0.1, 0.2)
    assert "differs from 0" in words(0.05, 0.2)


def test_a_walk_forward_prints_all_models_and_runs_stored_folds_no_more(market, run, tmp_path):
    arguments = [
        *("--data", market, "--recipe", "demo", "--epochs", 1, "--folds", 2, "--lookback", 32),
        *("--models", "zero,ridge,transformer", "--out", tmp_path / "out"),
    ]
    printed = run(walkforward, *arguments)
    assert all(f"\n{name} " in printed for name in ("zero", "ridge", "transformer"))
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert len(result["meta"]["folds"]) == 2
    assert {row["model"] for row in result["scores"]} == {"zero", "ridge", "transformer"}
    (tmp_path / "out" / "fold-2.parquet").unlink()
    again = run(walkforward, *arguments)
    assert "fold 1," in again
    assert again.count("stored before") == 1
    other = run(walkforward, *arguments[:-3], "zero,ridge", *arguments[-2:])
    assert "stored before" not in other


def test_a_walk_forward_takes_in_models_that_ran_elsewhere(market, run, tmp_path):
    shared = ["--data", market, "--recipe", "demo", "--folds", 2, "--lookback", 32]
    run(walkforward, *shared, "--models", "zero", "--out", tmp_path / "a")
    printed = run(
        walkforward,
        *shared,
        *("--models", "ridge", "--out", tmp_path / "b", "--with", tmp_path / "a" / "all.parquet"),
    )
    assert "\nzero " in printed
    assert "\nridge " in printed
