import math
from dataclasses import replace

import numpy as np
import pytest

from flash_pipeline.backtest import Costs, buy_and_hold, judge, simulate, summarise


@pytest.fixture
def plain(random_walk, random_weights):
    prices = random_walk(50)
    strategy = summarise(simulate(random_weights(50), prices, Costs()), 8_760)
    return strategy, summarise(buy_and_hold(prices, Costs()), 8_760)


@pytest.mark.parametrize(
    ("t", "total", "held", "outcome"),
    [
        (1.99, 0.5, 0.1, "no_evidence"),
        (-1.99, -0.5, 0.1, "no_evidence"),
        (math.nan, 0.5, 0.1, "no_evidence"),
        (-2.0, -0.5, 0.1, "loss"),
        (2.0, 0.1, 0.2, "behind_buy_and_hold"),
        (2.0, -0.1, -0.2, "behind_buy_and_hold"),
        (2.0, 0.2, 0.1, "some_evidence"),
        (-9.0, -1.0, 0.1, "ruin"),
    ],
)
def test_the_verdict_follows_the_t_statistic_and_buy_and_hold(plain, t, total, held, outcome):
    strategy, benchmark = plain
    verdict = judge(
        replace(strategy, t_statistic=t, total_return=total),
        replace(benchmark, total_return=held),
        synthetic=False,
    )
    assert verdict.outcome == outcome
    assert f"{total:+.2%}" in verdict.detail
    assert "synthetic" not in verdict.detail


def test_noise_is_no_evidence_of_an_edge(plain):
    assert judge(*plain, synthetic=False).headline == "No evidence of an edge."


def test_a_strategy_in_cash_is_not_judged(random_walk):
    prices = random_walk(20)
    metrics = summarise(simulate(np.zeros((20, 3)), prices, Costs()), 8_760)
    assert judge(metrics, metrics, synthetic=False).outcome == "no_position"


def test_a_synthetic_market_proves_nothing_and_the_verdict_says_so(plain):
    assert "says nothing about a real one" in judge(*plain, synthetic=True).detail
