import math
from dataclasses import replace

import numpy as np
import pytest

from flash_pipeline.backtest import (
    Costs,
    Rivals,
    ahead_of,
    buy_and_hold,
    judge,
    simulate,
    summarise,
)


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
        replace(strategy, mean_return_t=t, total_return_fraction=total),
        replace(benchmark, total_return_fraction=held),
        synthetic=False,
    )
    assert verdict.outcome == outcome
    assert f"{total:+.2%}" in verdict.detail
    assert "synthetic" not in verdict.detail


@pytest.fixture
def edge(plain):
    """Return a strategy and a benchmark that would be some evidence of an edge."""
    strategy, benchmark = plain
    strategy = replace(strategy, mean_return_t=3.0, total_return_fraction=0.2)
    return strategy, replace(benchmark, total_return_fraction=0.1)


def test_a_simpler_model_that_earns_as_much_is_named(edge):
    simpler = {
        "ridge": replace(edge[0], total_return_fraction=0.25),
        "zero": replace(edge[0], total_return_fraction=0.0),
    }
    verdict = judge(*edge, synthetic=False, rivals=Rivals(baselines=simpler))
    assert verdict.outcome == "behind_baseline"
    assert "the baseline ridge came to +25.00%" in verdict.detail


@pytest.mark.parametrize(("deflated", "outcome"), [(0.94, "many_trials"), (0.96, "some_evidence")])
def test_a_result_that_so_many_trials_explain_is_no_evidence(edge, deflated, outcome):
    verdict = judge(*edge, synthetic=False, rivals=Rivals(deflated_sharpe=deflated))
    assert verdict.outcome == outcome
    assert ("94.0%: at least 95%" in verdict.detail) is (outcome == "many_trials")


@pytest.mark.parametrize(
    ("t", "words"),
    [
        (1.9, "There is no evidence that it beats buy and hold (bar by bar, t of the difference 1"),
        (2.1, "It beats buy and hold by more than chance would explain"),
        (-2.1, "It falls behind buy and hold by more than chance would explain"),
    ],
)
def test_the_difference_from_buy_and_hold_is_put_in_words(edge, t, words):
    assert words in judge(*edge, synthetic=False, rivals=Rivals(ahead_t=t)).detail


def test_the_difference_is_measured_bar_by_bar(random_walk):
    prices = random_walk(50)
    held, cash = buy_and_hold(prices, Costs()), simulate(np.zeros((50, 3)), prices, Costs())
    expected = held.returns_T.mean() / held.returns_T.std(ddof=1) * math.sqrt(50)
    assert ahead_of(held, cash) == pytest.approx(expected)
    assert math.isnan(ahead_of(held, held))


def test_noise_is_no_evidence_of_an_edge(plain):
    assert judge(*plain, synthetic=False).headline == "No evidence of an edge."


def test_a_strategy_in_cash_is_not_judged(random_walk):
    prices = random_walk(20)
    metrics = summarise(simulate(np.zeros((20, 3)), prices, Costs()), 8_760)
    assert judge(metrics, metrics, synthetic=False).outcome == "no_position"


def test_a_synthetic_market_proves_nothing_and_the_verdict_says_so(plain):
    assert "says nothing about a real one" in judge(*plain, synthetic=True).detail
