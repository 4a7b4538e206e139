import dataclasses
import math
import re

import numpy as np
import pytest

from flash_pipeline.backtest import Metrics
from flash_pipeline.errors import InvalidInput
from flash_pipeline.evaluation import Contest, Contestant, GateRules, History, decide_promotion
from flash_pipeline.evaluation.gate import HeldContest
from flash_pipeline.evaluation.tracks import Track, Tracks

METRICS = Metrics(
    **dict.fromkeys((field.name for field in dataclasses.fields(Metrics)), math.nan),
)
HOUR_MS = 3_600_000
DATES = 400


def contestant(version, head="regression"):
    return Contestant(version, head, 1.0, {}, METRICS)


def track(name, mean=0.0, seed=0):
    noise_T = np.random.default_rng(seed).normal(0, 1e-3, DATES)
    return Track(
        name=name,
        symbols=("BTCUSDT",),
        horizon=6,
        made_at_T=HOUR_MS * np.arange(1, DATES + 1),
        net_return_T=mean + noise_T - noise_T.mean(),
        loss_T=np.full(DATES, np.nan),
    )


def contest(challenger, champion=None, absent="", *, unfit=False, rival="1", mean=0.0, **changes):
    """Return a contest in which the challenger earns so much more per bar than the champion."""
    tracks = Tracks(
        track(challenger.version, mean, seed=1),
        None if champion is None else track(champion.version),
        (dataclasses.replace(track("no position"), net_return_T=np.full(DATES, -1.0)),),
    )
    met = Contest(
        made_at=500 * HOUR_MS,
        anchors=DATES,
        first_made_at=HOUR_MS,
        last_made_at=DATES * HOUR_MS,
        challenger=challenger,
        champion=champion,
        champion_absent=absent,
        tracks=tracks,
        rival=rival,
        champion_unfit=unfit,
    )
    return dataclasses.replace(met, **changes)


def test_any_challenger_is_promoted_where_there_is_no_champion():
    decision = decide_promotion(contest(contestant("2"), absent="there is no champion yet"), None)
    assert decision.promoted
    assert not decision.forced
    assert decision.reason == "there was no champion; not tested against one"
    assert decide_promotion(contest(contestant("2")), None, force=True).forced


def test_the_champion_is_not_promoted_again():
    met = contest(contestant("2"), absent="none")
    decision = decide_promotion(met, "2", force=True)
    assert not decision.promoted
    assert decision.reason == "version 2 is the champion already"


@pytest.mark.parametrize(
    ("mean", "promoted", "verb"),
    [(1e-3, True, "is better"), (1e-6, False, "is not better"), (-1e-3, False, "is not better")],
)
@pytest.mark.parametrize("head", ["regression", "direction"])
def test_a_champion_is_replaced_by_one_that_the_gate_favours(mean, promoted, verb, head):
    decision = decide_promotion(contest(contestant("2"), contestant("1", head), mean=mean), "1")
    assert decision.promoted is promoted
    assert not decision.forced
    assert f"version 2 {verb} than champion 1 and the best baseline" in decision.reason
    assert "over the same 400 dates at the level 2.50%" in decision.reason
    assert re.search(r"against 1 [+-]\S+ log growth per bar, lower bound", decision.reason)
    assert decision.comparisons[0].difference == pytest.approx(mean, abs=2e-6)
    assert [each.rival for each in decision.comparisons] == ["1", "no position"]
    assert decision.level == 0.025


def test_an_account_that_was_liquidated_is_not_promoted_whatever_it_earned():
    met = contest(contestant("2"), contestant("1"), mean=1e-3)
    liquidated = dataclasses.replace(met.tracks.challenger, liquidated=True)
    tracks = dataclasses.replace(met.tracks, challenger=liquidated)
    decision = decide_promotion(dataclasses.replace(met, tracks=tracks), "1")
    assert not decision.promoted
    assert "its account was liquidated; against 1 +" in decision.reason


def test_a_contest_at_next_to_no_level_is_not_held():
    spent = HeldContest(HOUR_MS, 300 * HOUR_MS, 0.0485)
    met = contest(contestant("2"), contestant("1"), mean=1e-3)
    decision = decide_promotion(met, "1", history=History(held=[spent]))
    assert (decision.level, decision.comparisons) == (0, ())
    assert "25.1% of the dates" in decision.reason
    assert "leave a level of 0.075%" in decision.reason


def test_a_baseline_that_is_as_good_keeps_the_challenger_out():
    met = contest(contestant("2"), contestant("1"), mean=1e-3)
    as_good = track("ridge", 1e-3, seed=2)
    tracks = dataclasses.replace(met.tracks, baselines=(as_good,))
    decision = decide_promotion(dataclasses.replace(met, tracks=tracks), "1")
    assert not decision.promoted
    assert [each.favoured for each in decision.comparisons] == [True, False]


def test_a_stricter_level_keeps_a_challenger_out():
    met = contest(contestant("2"), contestant("1"), mean=1.6e-4)
    assert decide_promotion(met, "1").promoted
    assert not decide_promotion(met, "1", rules=GateRules(level=0.001)).promoted


def test_a_contest_on_dates_that_were_looked_at_before_is_not_compared():
    held = HeldContest(HOUR_MS, (DATES - 20) * HOUR_MS, 0.05)
    met = contest(contestant("2"), contestant("1"), mean=1e-3)
    decision = decide_promotion(met, "1", history=History(held=[held]))
    assert not decision.promoted
    assert decision.comparisons == ()
    assert decision.level == 0
    assert decision.reason.startswith("not compared: 5.0% of the dates to 1970-01-17T16:00Z are")


def test_a_contest_on_partly_fresh_dates_has_to_win_by_more():
    held = HeldContest(HOUR_MS, DATES // 2 * HOUR_MS, 0.025)
    met = contest(contestant("2"), contestant("1"), mean=1e-3)
    decision = decide_promotion(met, "1", history=History(held=[held]))
    assert decision.promoted
    assert decision.level == pytest.approx(0.0125)
    weak = contest(contestant("2"), contestant("1"), mean=1.5e-4)
    assert decide_promotion(weak, "1").promoted
    spent = HeldContest(HOUR_MS, 300 * HOUR_MS, 0.047)
    assert not decide_promotion(weak, "1", history=History(held=[spent])).promoted


def test_a_version_that_was_rolled_back_from_returns_by_force_only():
    met = contest(contestant("2"), contestant("1"), mean=1e-3)
    history = History(withdrawn={"2"})
    decision = decide_promotion(met, "1", history=history)
    assert not decision.promoted
    assert decision.reason.startswith("version 2 was rolled back from")
    assert decide_promotion(met, "1", history=history, force=True).promoted


@pytest.mark.parametrize("change", [{"symbols": ("ETHUSDT",)}, {"horizon": 12}])
def test_tracks_of_other_symbols_or_another_horizon_promote_nothing(change):
    met = contest(contestant("2"), contestant("1"), mean=1e-3)
    champion = dataclasses.replace(met.tracks.champion, **change)
    tracks = dataclasses.replace(met.tracks, champion=champion)
    with pytest.raises(InvalidInput, match="challenger 2 and 1 cannot be compared"):
        decide_promotion(dataclasses.replace(met, tracks=tracks), "1")


def test_a_champion_that_shares_too_few_dates_stays():
    met = contest(contestant("2"), absent="fewer than 96 dates follow what both models have seen")
    decision = decide_promotion(met, "1")
    assert not decision.promoted
    assert decision.reason.startswith("not comparable: fewer than 96 dates")


def test_a_champion_that_can_never_predict_again_is_replaced_with_the_reason():
    met = contest(contestant("2"), absent="champion 1 cannot be read, of format 1", unfit=True)
    decision = decide_promotion(met, "1")
    assert decision.promoted
    assert not decision.forced
    assert decision.reason == "champion 1 cannot be read, of format 1: it cannot be used any more"


def test_a_champion_of_another_configuration_stays_until_a_person_says_otherwise():
    met = contest(contestant("2"), absent="champion 1 needs 32 bars (the windows: 16)")
    decision = decide_promotion(met, "1")
    assert not decision.promoted
    assert decision.reason == (
        "not comparable: champion 1 needs 32 bars (the windows: 16); promote it by hand if wanted "
        "(flash_pipeline promote)"
    )
    assert decide_promotion(met, "1", force=True).promoted


def test_a_contest_against_another_version_than_the_champion_decides_nothing():
    met = contest(contestant("3"), contestant("1"), mean=1e-3)
    decision = decide_promotion(met, "2")
    assert not decision.promoted
    assert "against version 1 and the champion is 2 now" in decision.reason
    assert "materialize backtest_report again" in decision.reason


def test_a_champion_is_not_replaced_for_what_another_version_could_not():
    met = contest(contestant("3"), absent="champion 1 needs 32 bars", unfit=True)
    decision = decide_promotion(met, "2")
    assert not decision.promoted
    assert "materialize backtest_report again" in decision.reason


def test_force_promotes_a_worse_challenger_and_says_so():
    met = contest(contestant("2"), contestant("1"), mean=-1e-3)
    decision = decide_promotion(met, "1", force=True)
    assert decision.promoted
    assert decision.forced
    assert decision.reason == "forced over champion 1"


@pytest.mark.parametrize("absent", ["", "fewer than 96 dates follow what both models have seen"])
def test_force_promotes_whatever_was_measured(absent):
    met = contest(contestant("3"), None if absent else contestant("1"), absent)
    decision = decide_promotion(met, "2", force=True)
    assert decision.promoted
    assert decision.forced
    assert decision.reason == "forced over champion 2"
