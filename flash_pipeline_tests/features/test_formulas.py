import numpy as np
import pandas as pd
import pytest

from flash_pipeline.features import CATALOG, FEATURE_NAMES

HOURS = 120


def _by_pandas(closes: np.ndarray, volumes: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the chapter's formulas, row by row of a series without gaps."""
    close, volume = pd.Series(closes), pd.Series(volumes)
    log_return = np.log(close / close.shift(1))
    change = close.diff()
    gain = change.where(change > 0, 0).rolling(14).mean()
    loss = (-change.where(change < 0, 0)).rolling(14).mean()
    computed = {
        "log_return": log_return,
        "volatility": log_return.rolling(24).std(),
        "volume_ma_ratio": volume / volume.rolling(24).mean(),
        "price_ma_ratio": close / close.rolling(24).mean(),
        "rsi": 100 - 100 / (1 + gain / loss),
    }
    return {name: values.to_numpy() for name, values in computed.items()}


@pytest.mark.parametrize("feature", CATALOG, ids=FEATURE_NAMES)
def test_a_feature_is_the_chapters_formula(write, walk, refresh, values, feature):
    write(walk(HOURS))
    refresh()
    found = values()
    wanted = _by_pandas(found["close"], found["volume"])[feature.name]
    ready = slice(feature.warmup - 1, None)
    np.testing.assert_allclose(found[feature.name][ready], wanted[ready], rtol=1e-9)


@pytest.mark.parametrize("feature", CATALOG, ids=FEATURE_NAMES)
def test_a_feature_is_null_exactly_during_its_warmup(write, walk, refresh, values, feature):
    write(walk(HOURS))
    refresh()
    missing = np.isnan(values()[feature.name])
    assert missing.tolist() == [n < feature.warmup - 1 for n in range(HOURS)]


@pytest.mark.parametrize("feature", CATALOG, ids=FEATURE_NAMES)
def test_a_feature_warms_up_again_after_a_gap(write, walk, refresh, values, feature):
    write(walk(HOURS, absent=[50]))
    refresh()
    found = values()
    known = dict(zip(found["start_time"], ~np.isnan(found[feature.name]), strict=True))
    start = found["start_time"][0]
    after = [bool(known[start + n * 3_600_000]) for n in range(51, HOURS)]
    assert after == [n >= 50 + feature.warmup for n in range(51, HOURS)]


def test_no_row_is_ever_dropped(write, walk, refresh, values):
    write(walk(HOURS, absent=[0, 50, 51, 90]))
    done = refresh()
    assert (done.rows, len(values()["close"])) == (HOURS - 4, HOURS - 4)


@pytest.mark.parametrize("seed", range(5))
def test_windows_are_of_time_not_of_rows(write, walk, recomputed, seed):
    random = np.random.default_rng(seed)
    absent = random.choice(80, size=random.integers(1, 8), replace=False).tolist()
    held = [n for n in range(80) if n not in absent]
    write(walk(80, absent=absent))
    found = recomputed()
    write(walk(80))
    whole = recomputed()
    for feature in CATALOG:
        full = [all(m in held for m in range(n - feature.warmup + 1, n + 1)) for n in held]
        assert (~np.isnan(found[feature.name])).tolist() == full
        np.testing.assert_allclose(
            found[feature.name][full], whole[feature.name][held][full], rtol=1e-12
        )


@pytest.mark.parametrize(("step", "rsi"), [(0.0, 50.0), (1.0, 100.0), (-1.0, 0.0)])
def test_rsi_of_a_flat_rising_or_falling_market(write, candles, refresh, values, step, rsi):
    write(candles([100 + step * n for n in range(40)], [1.0] * 40))
    refresh()
    assert values()["rsi"][14:].tolist() == [rsi] * 26


def test_a_market_that_falls_flat_has_rsi_50_once_no_change_is_left(
    write, candles, refresh, values
):
    write(candles([100.0 + 0.1 * n for n in range(20)] + [107.3] * 20, [1.0] * 40))
    refresh()
    assert values()["rsi"][34:].tolist() == [50.0] * 6


def test_a_flat_market_has_no_volatility(write, candles, refresh, values):
    write(candles([100.0] * 40, [1.0] * 40))
    refresh()
    found = values()
    assert found["volatility"][24:].tolist() == [0.0] * 16
    assert found["log_return"][1:].tolist() == [0.0] * 39
    assert found["price_ma_ratio"][23:].tolist() == [1.0] * 17


def test_a_day_without_any_volume_has_no_volume_ratio(write, candles, refresh, values):
    write(candles([100.0] * 60, [3.7] * 20 + [0.0] * 40))
    refresh()
    ratio = values()["volume_ma_ratio"]
    assert ratio[23:43].tolist() == [0.0] * 20
    assert np.isnan(ratio[43:]).all()


@pytest.mark.parametrize("cut", [30, 60, 119])
def test_the_future_changes_no_earlier_value(write, walk, recomputed, cut):
    write(walk(HOURS))
    before = recomputed()
    past = walk(HOURS).slice(0, cut).to_pylist()
    future = walk(HOURS, seed=2).slice(cut).to_pylist()
    write(walk(HOURS).from_pylist(past + future, schema=walk(1).schema))
    after = recomputed()
    for name in FEATURE_NAMES:
        assert not np.array_equal(before[name][cut:], after[name][cut:], equal_nan=True)
        np.testing.assert_array_equal(before[name][:cut], after[name][:cut])


def test_symbols_do_not_leak_into_each_other(write, walk, refresh, values, recomputed):
    write(walk(HOURS), "BTCUSDT")
    write(walk(HOURS, seed=2, absent=[40]), "ETHUSDT")
    alone = recomputed(symbol="BTCUSDT")
    refresh(symbols=["BTCUSDT", "ETHUSDT"])
    together = values("BTCUSDT")
    for name in FEATURE_NAMES:
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-12)
