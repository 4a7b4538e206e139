import math

import numpy as np
import pytest

from flash_pipeline.backtest import Costs, Prices, simulate
from flash_pipeline.evaluation import Tried

BARS_PER_YEAR = 8_760.0


@pytest.fixture
def result():
    close_TS = 100 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, (60, 1)), axis=0))
    prices = Prices(3_600_000 * np.arange(60), close_TS, close_TS, ("BTCUSDT",))
    return simulate(np.ones((60, 1)), prices, Costs())


def test_the_ratios_of_a_year_become_those_of_a_bar(result):
    trials = Tried(9, (10.0, 90.0)).with_own(result, BARS_PER_YEAR)
    own = result.returns_T.mean() / result.returns_T.std(ddof=1)
    year = math.sqrt(BARS_PER_YEAR)
    assert trials.count == 9
    assert trials.sharpe_variance == pytest.approx(np.var([own, 10 / year, 90 / year], ddof=1))
    assert trials.sharpe_variance > 1 / 59


def test_ratios_like_its_own_leave_the_variance_of_luck(result):
    own = result.returns_T.mean() / result.returns_T.std(ddof=1) * math.sqrt(BARS_PER_YEAR)
    assert Tried(9, (own,)).with_own(result, BARS_PER_YEAR).sharpe_variance == 1 / 59


def test_what_is_counted_is_told():
    assert Tried(9, (1.0, 3.0)).told.startswith("9 models trained")
    assert "ratios of 3 of them" in Tried(9, (1.0, 3.0)).told
    assert "no other one has a backtest" in Tried(9, ()).told
