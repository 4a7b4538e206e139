"""A short, seeded run of what `benchmarks.null_model` measures over 200 seeds.

Bounds are those of the goals, widened to three standard errors of so few trials.
"""

import json

import numpy as np
import pytest

from benchmarks.null_model import (
    DESIGNS,
    HORIZON,
    IC,
    Design,
    Rates,
    _forecasts,
    _labels,
    _returns,
    hours_for_power,
    main,
    measure,
    pooled,
    table,
)
from flash_pipeline.evaluation.gate import GateRules

TRIALS = 40
RULES = GateRules(resamples=400)


@pytest.fixture(scope="module")
def rates():
    return measure(Design(1_300, "fresh", 0.0), TRIALS, RULES)


def test_the_paired_test_rejects_chance_about_as_often_as_its_level_says(rates):
    assert 0 <= rates.rejected <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / TRIALS)
    assert 0 <= rates.rejected_gross <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / TRIALS)


def test_the_gate_hardly_ever_promotes_chance(rates):
    assert rates.chance_promoted <= 0.05


def test_the_gate_promotes_the_planted_signal(rates):
    assert rates.signal_promoted >= 0.9
    assert rates.signal_sharpe > 3


def test_chance_loses_its_costs(rates):
    assert rates.chance_sharpe < 0
    assert rates.gross_sharpe == pytest.approx(0, abs=3 * np.sqrt(8760 / 1300 / TRIALS))
    assert rates.chance_sharpe == pytest.approx(
        rates.gross_sharpe - rates.costs_sharpe, abs=0.1 * rates.costs_sharpe
    )


def test_equal_seeds_give_equal_rates():
    design = Design(400, "persistent", 0.7)
    assert measure(design, 2, RULES) == measure(design, 2, RULES)


@pytest.mark.parametrize("error", ["fresh", "persistent"])
def test_a_forecast_has_the_planted_correlation_with_its_label(error):
    rng = np.random.default_rng(0)
    design = Design(60_000, error, 0.7)
    labels_TS = _labels(_returns(design, rng), design.hours)
    for ic in (0.0, IC):
        told_TS = _forecasts(design, labels_TS, ic, rng)
        assert np.corrcoef(told_TS.ravel(), labels_TS.ravel())[0, 1] == pytest.approx(ic, abs=0.04)
        assert told_TS.std() == pytest.approx(labels_TS.std(), rel=0.05)


def test_the_label_of_a_bar_is_the_return_over_the_bars_that_follow():
    returns_TS = _returns(Design(50, "fresh", 0.0), np.random.default_rng(0))
    labels_TS = _labels(returns_TS, 50)
    np.testing.assert_allclose(labels_TS[7], returns_TS[8 : 8 + HORIZON].sum(axis=0))


def rows(*powers):
    rates = Rates(200, 0.05, 0.05, 0.0, 0.0, -1.0, 0.0, 1.0, 2.0)
    return [
        (Design(hours, "fresh", 0.0), Rates(*{**vars(rates), "signal_promoted": power}.values()))
        for hours, power in powers
    ]


@pytest.mark.parametrize(
    ("powers", "expected"),
    [
        ([(4000, 0.95), (2000, 0.91), (1300, 0.5)], 2000),
        ([(2000, 0.5), (4000, 0.89)], None),
        ([(2000, 0.9), (4000, 0.99)], 2000),
    ],
)
def test_the_hours_needed_are_the_fewest_with_enough_power(powers, expected):
    assert hours_for_power(rows(*powers)) == {"fresh errors, correlation 0": expected}


def test_rates_are_pooled_by_their_trials():
    (design, one), (_, other) = rows((2000, 0.95), (4000, 0.99))
    less = Rates(*{**vars(other), "trials": 100, "rejected": 0.02}.values())
    assert pooled([(design, one), (design, less)])["rejected"] == pytest.approx(0.04)


def test_every_design_is_a_row_of_the_table():
    found = rows((2000, 0.95), (4000, 0.99))
    lines = table(found).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| 2,000 | fresh | 0 | 5.0% | 5.0% | 0.0% | 95.0% |")


def test_the_command_prints_the_table_and_keeps_a_result(tmp_path, capsys):
    main(["--trials", "2", "--resamples", "100", "--hours", "1300", "--out", str(tmp_path)])
    (path,) = tmp_path.iterdir()
    result = json.loads(path.read_text())
    assert path.name.startswith("null_model_cpu")
    assert len(result["rows"]) == len([d for d in DESIGNS if d.hours == 1_300]) == 4
    assert "| 1,300 | persistent | 0.7 |" in capsys.readouterr().out
