"""Shape letters: T hours, A assets, F inputs."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flash_pipeline.errors import FileDamaged, NotEnoughHistory, SchemaMismatch
from flash_pipeline.market import CANDLE_SCHEMA, Interval, Month
from flash_pipeline.portfolio import FEATURES, MarketPanel, UniverseConfig, build_panel, read_panel
from flash_pipeline.portfolio.audit import audit_panel, audit_weights
from flash_pipeline.portfolio.candidates import perpetuals, stored_symbols
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline_tests.portfolio.conftest import HOUR, START, UNIVERSE, market, panel_of


def test_nothing_is_filled(panel):
    listed, gone = panel.symbols.index("BBUSDT"), panel.symbols.index("CCUSDT")
    present = panel.present_TA
    assert not present[:174, listed].any()  # 150 and the warm-up of 24 hours
    assert present[200:, listed].all()
    assert present[299, gone]
    assert not present[300:, gone].any()
    assert np.isnan(panel.close_TA[300:, gone]).all()
    assert np.isfinite(panel.x_TAF[present]).all()
    assert np.isnan(panel.x_TAF[300:, gone]).all()


def test_a_hole_hides_every_hour_whose_inputs_would_need_it():
    names, start, candles = market()
    for values in candles.values():
        values[100, 0] = np.nan
    panel = build_panel(names, start, candles, UNIVERSE, synthetic=True)
    assert not panel.present_TA[100:125, 0].any()
    assert panel.present_TA[99, 0]
    assert panel.present_TA[125, 0]


def test_inputs_are_those_of_a_plain_reckoning(panel):
    t, close = 90, panel.close_TA[:, 0]
    returns = np.diff(np.log(close))
    expected = [
        returns[t - 1],
        returns[t - 24 : t].std(ddof=1),
        np.log(close[t] / close[t - 23 : t + 1].mean()),
        np.log(panel.turnover_TA[t, 0] / panel.turnover_TA[t - 23 : t + 1, 0].mean()),
    ]
    np.testing.assert_allclose(panel.x_TAF[t, 0], expected, rtol=1e-4)


def test_inputs_and_members_of_an_hour_know_no_later_one():
    names, start, candles = market()
    before = build_panel(names, start, candles, UNIVERSE, synthetic=True)
    for values in candles.values():
        values[200:] *= np.random.default_rng(1).uniform(0.5, 2, values[200:].shape)
    after = build_panel(names, start, candles, UNIVERSE, synthetic=True)
    here = [after.symbols.index(s) for s in before.symbols]
    np.testing.assert_array_equal(before.x_TAF[:200], after.x_TAF[:200, here])
    np.testing.assert_array_equal(before.member_TA[:201], after.member_TA[:201, here])


def test_inputs_do_not_depend_on_where_the_panel_begins():
    names, start, candles = market()
    whole = build_panel(names, start, candles, UNIVERSE, synthetic=True)
    later = {name: values[96:] for name, values in candles.items()}
    part = build_panel(names, start[96:], later, UNIVERSE, synthetic=True)
    np.testing.assert_array_equal(whole.x_TAF[150:], part.x_TAF[54:])


def test_a_forward_return_is_earned_from_the_next_open(panel):
    y = panel.forward_returns(24)
    assert y[100, 0] == panel.open_TA[125, 0] / panel.open_TA[101, 0] - 1
    assert np.isnan(y[-25:]).all()
    assert np.isfinite(y[-26, 0])
    gone = panel.symbols.index("CCUSDT")
    assert np.isnan(y[275:, gone]).all()
    assert np.isfinite(y[274, gone])


def test_columns_of_a_trained_model_keep_their_places(panel):
    taken = panel.columns(["ZZUSDT", "DDUSDT", "AAUSDT"])
    assert taken.symbols == ("ZZUSDT", "DDUSDT", "AAUSDT")
    assert not taken.present_TA[:, 0].any()
    np.testing.assert_array_equal(taken.close_TA[:, 2], panel.close_TA[:, 0])


def test_none_of_the_assets_of_a_model_is_an_error(panel):
    with pytest.raises(NotEnoughHistory, match="no candle of ZZUSDT"):
        panel.columns(["ZZUSDT"])


def test_a_panel_comes_back_from_its_file(panel, tmp_path):
    panel.save(tmp_path / "panel.parquet")
    back = MarketPanel.load(tmp_path / "panel.parquet")
    assert back.symbols == panel.symbols
    assert back.snapshot == panel.snapshot
    assert back.x_TAF.dtype == np.float32
    np.testing.assert_array_equal(back.present_TA, panel.present_TA)


def test_files_that_are_no_panel_are_refused(tmp_path):
    path = tmp_path / "panel.parquet"
    with pytest.raises(NotEnoughHistory, match="market_panel"):
        MarketPanel.load(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(FileDamaged, match="cannot be read"):
        MarketPanel.load(path)
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(SchemaMismatch, match="expected 'market-panel-1'"):
        MarketPanel.load(path)


def test_a_market_without_a_usable_hour_is_an_error():
    names, start, candles = market(hours=20)
    with pytest.raises(NotEnoughHistory, match="none of 5 instruments"):
        build_panel(names, start, candles, UNIVERSE, synthetic=True)


def _store(tmp_path, **options):
    names, start, candles = market(**options)
    store = KlineStore(tmp_path, Interval.HOUR_1)
    for a, symbol in enumerate(names):
        there = np.isfinite(candles["close"][:, a])
        for month in (Month(2024, 1), Month(2024, 2)):
            span = month.time_range
            rows = there & (start >= span.start) & (start < span.end)
            columns = {name: values[rows, a] for name, values in candles.items()}
            table = pa.table({"start_time": start[rows], "volume": columns["close"], **columns})
            if rows.any():
                table = table.select(CANDLE_SCHEMA.names)
                store.write_month(symbol, month, table, synthetic=True)
    return store, names


def test_the_panel_of_stored_candles_is_that_of_the_candles(tmp_path):
    store, names = _store(tmp_path, hours=900, gone={"CCUSDT": 800})
    universe = UniverseConfig(n_assets=4, trailing_hours=48, refresh_hours=24)
    panel = read_panel(store, [*names, "ZZUSDT"], Month(2024, 2), Month(2024, 2), universe)
    whole = panel_of(hours=900, gone={"CCUSDT": 800})
    assert panel.start_time_T[0] == Month(2024, 2).time_range.start
    assert panel.present_TA[0].sum() == 4  # elected and warmed up on the month before
    assert panel.synthetic
    np.testing.assert_array_equal(panel.x_TAF, whole.x_TAF[-len(panel.x_TAF) :])


def test_months_without_a_candle_and_other_intervals_are_refused(tmp_path):
    store, names = _store(tmp_path, hours=100)
    with pytest.raises(NotEnoughHistory, match="no candle of 5 instruments"):
        read_panel(store, names, Month(2024, 3), Month(2024, 3), UNIVERSE)
    with pytest.raises(SchemaMismatch, match="15 minutes"):
        read_panel(
            KlineStore(tmp_path, Interval.MIN_15), names, Month(2024, 1), Month(2024, 1), UNIVERSE
        )


def test_a_sound_panel_passes_and_a_broken_one_is_told(panel):
    assert audit_panel(panel) == []
    panel.open_TA[100, 0] = np.nan
    panel.start_time_T[5:] += HOUR
    problems = audit_panel(panel)
    assert problems[0] == "the hours are not consecutive"
    assert problems[1].startswith("1 present cells have no open, the first of AAUSDT")


def test_weights_past_a_cap_or_of_who_is_not_there_are_told(panel):
    weights = np.zeros((2, len(panel.symbols)))
    times = START + HOUR * np.array([200, 350])
    assert audit_weights(panel, times, weights, asset_cap=0.2, gross_cap=0.5) == []
    weights[0] = 0.2
    weights[1, panel.symbols.index("CCUSDT")] = 0.3
    problems = audit_weights(panel, times, weights, asset_cap=0.2, gross_cap=0.5)
    assert [problem.split(" ")[0:3] for problem in problems] == [
        ["a", "weight", "of"],
        ["a", "gross", "of"],
        ["an", "asset", "that"],
    ]
    weights[0, 0] = np.nan
    assert "1 weights are not finite" in audit_weights(
        panel, times, weights, asset_cap=0.2, gross_cap=0.5
    )


def test_candidates_are_the_perpetuals_and_whatever_is_stored(tmp_path):
    rows = [
        {"symbol": "BTCUSDT", "contractType": "LinearPerpetual", "quoteCoin": "USDT"},
        {"symbol": "OLDUSDT", "contractType": "LinearPerpetual", "quoteCoin": "USDT"},
        {"symbol": "BTCPERP", "contractType": "LinearPerpetual", "quoteCoin": "USDC"},
        {"symbol": "BTC-27DEC24", "contractType": "LinearFutures", "quoteCoin": "USDT"},
        {"symbol": "10K-USDT", "contractType": "LinearPerpetual", "quoteCoin": "USDT"},
    ]
    assert perpetuals(rows) == ["BTCUSDT", "OLDUSDT"]
    (tmp_path / "symbol=GONEUSDT").mkdir()
    (tmp_path / "symbol=SPX").mkdir()
    assert stored_symbols(tmp_path) == ["GONEUSDT"]
    assert stored_symbols(tmp_path / "none") == []


def test_the_inputs_are_named():
    assert FEATURES == ("log_return", "volatility", "price_ma_ratio", "turnover_ma_ratio")
