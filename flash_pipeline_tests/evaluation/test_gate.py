"""Shape letters: T dates."""

import dataclasses
import math

import numpy as np
import pytest

from flash_pipeline.errors import InvalidConfig, InvalidInput
from flash_pipeline.evaluation.gate import (
    GateRules,
    HeldContest,
    available_level,
    compare,
    new_share,
    pass_gate,
)
from flash_pipeline.evaluation.tracks import Track, Tracks

HOUR_MS = 3_600_000
DATES = 600
RULES = GateRules(resamples=2000)


def track(name="2", *, mean=0.0, seed=0, dates=DATES, **changes):
    """Return a track of noisy returns, all of one market, with that mean net return."""
    noise_T = np.random.default_rng(seed).normal(0, 1e-3, dates)
    made = Track(
        name=name,
        symbols=("BTCUSDT", "ETHUSDT"),
        horizon=6,
        made_at_T=HOUR_MS * np.arange(1, dates + 1),
        net_return_T=mean + noise_T - noise_T.mean(),
        loss_T=np.full(dates, np.nan),
    )
    return dataclasses.replace(made, **changes)


def losing(name, *, loss, seed):
    loss_T = loss + np.random.default_rng(seed).normal(0, 0.1, DATES)
    return track(name, mean=1e-3 if name == "2" else 0, loss_T=loss_T, measured_as="regression")


def test_a_challenger_that_earns_clearly_more_is_favoured():
    found = compare(track(mean=4e-4), track("1", seed=1), 0.05, RULES)
    assert found.favoured
    assert found.difference == pytest.approx(4e-4, rel=1e-2)
    assert 0 < found.lower < found.difference
    assert found.p_value < 0.001
    assert (found.rival, found.dates) == ("1", DATES)


def test_the_lower_bound_is_that_of_independent_returns_by_the_normal_formula():
    found = compare(track(dates=9000), track("1", seed=1, dates=9000), 0.05, RULES)
    error = math.sqrt(2) * 1e-3 / math.sqrt(9000)
    assert (found.difference - found.lower) / error == pytest.approx(1.645, rel=0.1)


@pytest.mark.parametrize("mean", [0.0, 2e-5, -4e-4])
def test_a_challenger_that_may_have_been_lucky_is_not_favoured(mean):
    found = compare(track(mean=mean), track("1", seed=1), 0.05, RULES)
    assert not found.favoured
    assert found.lower < 0
    assert found.p_value > 0.05


def test_an_equal_challenger_has_no_difference_and_is_not_favoured():
    found = compare(track(), track("1"), 0.05, RULES)
    assert (found.difference, found.lower, found.p_value, found.favoured) == (0, 0, 1, False)


def test_what_moves_both_accounts_alike_cancels():
    market_T = np.random.default_rng(5).normal(0, 0.05, DATES)
    plain = compare(track(mean=4e-4), track("1", seed=1), 0.05, RULES)
    moved = compare(
        track(net_return_T=track(mean=4e-4).net_return_T + market_T),
        track("1", net_return_T=track(seed=1).net_return_T + market_T),
        0.05,
        RULES,
    )
    assert moved.p_value == pytest.approx(plain.p_value, abs=1e-3)
    assert moved.lower == pytest.approx(plain.lower, rel=0.05)


def test_a_smaller_level_asks_for_a_larger_difference():
    p_value = compare(track(mean=1.4e-4), track("1", seed=1), 0.05, RULES).p_value
    assert 0.001 < p_value < 0.05
    assert compare(track(mean=1.4e-4), track("1", seed=1), p_value + 1e-4, RULES).favoured
    assert not compare(track(mean=1.4e-4), track("1", seed=1), p_value - 1e-4, RULES).favoured


def test_returns_that_come_in_long_waves_are_worth_less_than_independent_ones():
    waves_T = 1e-3 * np.sin(np.arange(DATES) / 3)
    gains_T = np.where(waves_T > 0.5e-3, 1.2e-3, -0.4e-3)
    shuffled_T = np.random.default_rng(3).permutation(gains_T)
    flat = track("1", net_return_T=np.zeros(DATES))
    rules = dataclasses.replace(RULES, block_horizons=4)
    p_waves, p_shuffled = (
        compare(track(net_return_T=gains_T - gains_T.mean() + m), flat, 0.05, rules).p_value
        for gains_T, m in ((np.repeat(gains_T[::12], 12)[:DATES], 6e-5), (shuffled_T, 6e-5))
    )
    assert p_waves > 2 * p_shuffled


def test_the_same_contest_is_decided_the_same_way_each_time():
    pair = track(mean=1e-4), track("1", seed=1)
    assert compare(*pair, 0.05, RULES) == compare(*pair, 0.05, RULES)


def test_a_clearly_higher_loss_objects_to_a_higher_return():
    found = compare(losing("2", loss=1.1, seed=1), losing("1", loss=1.0, seed=2), 0.05, RULES)
    assert found.p_value < 0.05
    assert found.loss_difference == pytest.approx(0.1, abs=0.02)
    assert found.loss_p_value < 0.05
    assert not found.favoured


@pytest.mark.parametrize("loss", [0.9, 1.0])
def test_a_loss_that_is_no_higher_does_not_object(loss):
    found = compare(losing("2", loss=loss, seed=1), losing("1", loss=1.0, seed=2), 0.05, RULES)
    assert found.loss_p_value > 0.05
    assert found.favoured


def test_losses_in_other_units_are_not_compared():
    other = dataclasses.replace(losing("1", loss=1.0, seed=2), measured_as="direction")
    found = compare(losing("2", loss=9.0, seed=1), other, 0.05, RULES)
    assert found.loss_difference is found.loss_p_value is None
    assert found.favoured


def test_dates_on_which_a_loss_is_not_known_are_left_out_of_the_losses():
    mine, theirs = losing("2", loss=1.5, seed=1), losing("1", loss=1.0, seed=2)
    mine.loss_T[:100] = np.nan
    theirs.loss_T[50:150] = np.nan
    expected = (mine.loss_T - theirs.loss_T)[150:].mean()
    assert compare(mine, theirs, 0.05, RULES).loss_difference == pytest.approx(expected)


def test_the_champion_and_the_best_baseline_both_have_to_be_beaten():
    champion, low = track("1", seed=1), track("flat", net_return_T=np.zeros(DATES))
    high = track("ridge", seed=2, mean=5e-4)
    easy = pass_gate(Tracks(track(mean=4e-4), champion, (low,)), 0.05, RULES)
    hard = pass_gate(Tracks(track(mean=4e-4), champion, (low, high)), 0.05, RULES)
    assert [(each.rival, each.favoured) for each in easy] == [("1", True), ("flat", True)]
    assert [(each.rival, each.favoured) for each in hard] == [("1", True), ("ridge", False)]


def test_a_challenger_that_meets_nobody_is_refused():
    with pytest.raises(InvalidInput, match="neither a champion nor a baseline"):
        pass_gate(Tracks(track()), 0.05, RULES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"symbols": ("BTCUSDT",)}, "one is of BTCUSDT, ETHUSDT, the other of BTCUSDT: expected"),
        ({"symbols": ("ETHUSDT", "BTCUSDT")}, "expected the same symbols in the same order"),
        ({"horizon": 12}, "one forecasts 6 bars ahead, the other 12: expected the same horizon"),
        ({"made_at_T": HOUR_MS * np.arange(DATES)}, "dates that are not the same"),
        ({"net_return_T": np.full(DATES, np.nan)}, "net return of 1 at 1970-01-01T01:00Z is nan"),
    ],
)
def test_a_rival_that_is_not_alike_is_refused_with_what_differs(change, message):
    with pytest.raises(InvalidInput, match=message):
        compare(track(), track("1", **change), 0.05, RULES)


def test_fewer_dates_than_two_blocks_are_refused():
    with pytest.raises(InvalidInput, match="share 23 dates: expected two blocks, 24"):
        compare(track(dates=23), track("1", dates=23), 0.05, RULES)


@pytest.mark.parametrize(
    "change",
    [
        {"level": 0.0},
        {"level": 0.5},
        {"block_horizons": 1.9},
        {"resamples": 99},
        {"least_new_share": 1.1},
        {"spent_share": 0},
        {"least_level": -0.1},
        {"seed": -1},
    ],
)
def test_rules_out_of_their_bounds_are_refused(change):
    ((name, value),) = change.items()
    with pytest.raises(InvalidConfig, match=rf"{name} is {value}: expected"):
        GateRules(**change)


def test_the_first_contest_spends_its_share_of_the_level():
    assert available_level(0, 100, [], RULES) == 0.025
    assert available_level(0, 100, [], GateRules(spent_share=1)) == 0.05
    assert new_share(0, 100, []) == 1


def test_a_contest_on_the_same_dates_has_less_and_less_left():
    held = [HeldContest(0, 100, 0.025)]
    assert available_level(0, 100, held, RULES) == pytest.approx(0.0125)
    assert available_level(0, 100, [*held, HeldContest(0, 100, 0.025)], RULES) == 0
    assert new_share(0, 100, held) == 0


def test_the_level_is_what_the_most_used_date_leaves():
    held = [HeldContest(0, 100, 0.02), HeldContest(60, 160, 0.01), HeldContest(150, 250, 0.015)]
    rules = GateRules(spent_share=1)
    assert available_level(20, 50, held, rules) == pytest.approx(0.03)
    assert available_level(50, 140, held, rules) == pytest.approx(0.02)
    assert available_level(110, 200, held, rules) == pytest.approx(0.025)
    assert available_level(101, 300, held, rules) == pytest.approx(0.025)


def test_only_dates_that_were_never_used_have_the_level_back():
    held = [HeldContest(0, 100, 0.05)]
    assert available_level(30, 130, held, RULES) == 0
    assert available_level(101, 200, held, RULES) == 0.025


def test_the_share_of_new_dates_is_what_no_contest_used():
    held = [HeldContest(40, 70, 0.01), HeldContest(0, 50, 0.01), HeldContest(90, 300, 0.01)]
    assert new_share(0, 100, held) == pytest.approx(0.2)
    assert new_share(30, 130, [HeldContest(0, 100, 0.05)]) == pytest.approx(0.3)
    assert new_share(500, 600, held) == 1


def test_an_instant_is_spent_where_a_contest_covered_it():
    assert new_share(50, 50, [HeldContest(0, 100, 0.05)]) == 0
    assert new_share(101, 101, [HeldContest(0, 100, 0.05)]) == 1


def test_no_date_ever_holds_more_than_the_level_and_contests_go_on():
    held = []
    for start in range(0, 2000, 10):
        level = available_level(start, start + 100, held, RULES)
        if level >= RULES.least_level:
            held.append(HeldContest(start, start + 100, level))
    spent = [
        sum(each.level for each in held if each.first_made_at <= date <= each.last_made_at)
        for date in range(2100)
    ]
    assert max(spent) <= RULES.level + 1e-12
    late = [each.level for each in held if each.first_made_at >= 1500]
    assert len(late) > 30
    assert min(late) > 0.003


def test_of_worthless_challengers_on_dates_that_overlap_hardly_one_ever_wins():
    """Each brings a tenth of new dates; at 5 % each one would win in 40 % of the histories."""
    rules = dataclasses.replace(RULES, resamples=1000)
    nothing = track("flat", dates=120, net_return_T=np.zeros(120))
    fooled, histories = 0, 200
    for seed in range(histories):
        rng, held, won = np.random.default_rng(seed), [], False
        for start in range(0, 100, 10):
            level = available_level(start, start + 100, held, rules)
            if level < rules.least_level:
                continue
            mine = track(dates=120, net_return_T=rng.normal(0, 1e-3, 120))
            won |= compare(mine, nothing, level, rules).favoured
            held.append(HeldContest(start, start + 100, level))
        fooled += won
    assert fooled / histories <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / histories)


def test_an_account_that_swings_and_shrinks_is_not_favoured_for_its_mean_return():
    returns_T = np.tile([0.30, -0.25], DATES // 2)
    flat = track("flat", net_return_T=np.zeros(DATES))
    found = compare(track(net_return_T=returns_T), flat, 0.05, RULES)
    assert returns_T.mean() > 0.02
    assert np.prod(1 + returns_T) < 1e-3
    assert found.difference < 0
    assert not found.favoured


def test_an_account_that_was_liquidated_is_not_favoured():
    found = compare(track(mean=4e-4, liquidated=True), track("1", seed=1), 0.05, RULES)
    assert found.p_value < 0.001
    assert found.liquidated
    assert not found.favoured


def test_a_bar_that_takes_everything_is_finite():
    lost_T = np.zeros(DATES)
    lost_T[5] = -1.0
    found = compare(track(net_return_T=lost_T), track("1", seed=1), 0.05, RULES)
    assert found.difference == pytest.approx(np.log(1e-3) / DATES, rel=1e-3)
