import dataclasses
import math

import pytest

from flash_pipeline.backtest import Metrics
from flash_pipeline.evaluation import Contest, Contestant, decide_promotion

METRICS = Metrics(
    **dict.fromkeys((field.name for field in dataclasses.fields(Metrics)), math.nan),
)


def contestant(version, loss=1.0, total_return=0.0, head="regression"):
    metrics = dataclasses.replace(METRICS, total_return=total_return)
    return Contestant(version, head, loss, {}, metrics)


def contest(challenger, champion=None, absent="", *, unfit=False, rival="1"):
    return Contest(
        made_at=3,
        anchors=77,
        first_made_at=1,
        last_made_at=2,
        challenger=challenger,
        champion=champion,
        champion_absent=absent,
        rival=rival,
        champion_unfit=unfit,
    )


def test_any_challenger_is_promoted_where_there_is_no_champion():
    decision = decide_promotion(contest(contestant("2"), absent="there is no champion yet"), None)
    assert decision.promoted
    assert not decision.forced
    assert decision.reason == "there was no champion"


def test_the_champion_is_not_promoted_again():
    met = contest(contestant("2"), absent="none")
    decision = decide_promotion(met, "2", force=True)
    assert not decision.promoted
    assert decision.reason == "version 2 is the champion already"


@pytest.mark.parametrize(
    ("loss", "promoted", "verb"),
    [(0.9, True, "is better"), (1.0, False, "is not better"), (1.1, False, "is not better")],
)
def test_models_of_one_head_are_compared_by_their_loss(loss, promoted, verb):
    met = contest(contestant("2", loss, total_return=-0.5), contestant("1", 1.0, total_return=0.5))
    decision = decide_promotion(met, "1")
    assert decision.promoted is promoted
    assert f"version 2 {verb} than champion 1 over the same 77 dates" in decision.reason
    assert f"loss {loss:.6f} against 1.000000" in decision.reason


@pytest.mark.parametrize(("gain", "promoted"), [(0.11, True), (0.1, False), (-0.2, False)])
def test_models_of_other_heads_are_compared_by_their_net_return(gain, promoted):
    met = contest(
        contestant("2", 9.0, gain, head="direction"), contestant("1", 0.1, total_return=0.1)
    )
    decision = decide_promotion(met, "1")
    assert decision.promoted is promoted
    assert f"net return {gain:+.2%} against +10.00%" in decision.reason


def test_a_loss_that_is_nan_is_not_better():
    met = contest(contestant("2", math.nan), contestant("1", 1.0))
    assert not decide_promotion(met, "1").promoted


def test_a_champion_that_shares_too_few_dates_stays():
    met = contest(contestant("2"), absent="fewer than 96 dates follow what both models have seen")
    decision = decide_promotion(met, "1")
    assert not decision.promoted
    assert decision.reason.startswith("not comparable: fewer than 96 dates")


def test_a_champion_that_cannot_predict_from_the_windows_is_replaced_with_the_reason():
    met = contest(contestant("2"), absent="champion 1 needs 32 bars", unfit=True)
    decision = decide_promotion(met, "1")
    assert decision.promoted
    assert not decision.forced
    assert decision.reason == "champion 1 needs 32 bars: it cannot predict from these windows"


def test_a_contest_against_another_version_than_the_champion_decides_nothing():
    met = contest(contestant("3", 0.5), contestant("1", 1.0))
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
    met = contest(contestant("2", 9.0), contestant("1", 1.0))
    decision = decide_promotion(met, "1", force=True)
    assert decision.promoted
    assert decision.forced
    assert decision.reason == "forced over champion 1"


@pytest.mark.parametrize("absent", ["", "fewer than 96 dates follow what both models have seen"])
def test_force_promotes_whatever_was_measured(absent):
    met = contest(contestant("3"), None if absent else contestant("1", 0.1), absent)
    decision = decide_promotion(met, "2", force=True)
    assert decision.promoted
    assert decision.forced
    assert decision.reason == "forced over champion 2"
