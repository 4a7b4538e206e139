"""Shape letters: N anchors, S symbols."""

import dataclasses
import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from flash_pipeline.backtest import simulate
from flash_pipeline.errors import NotEnoughHistory
from flash_pipeline.evaluation import (
    Contest,
    Terms,
    decide_promotion,
    evaluate_challenger,
    make_forecast,
)
from flash_pipeline.evaluation.trading import predict_windows
from flash_pipeline.model.config import HeadOptions
from flash_pipeline.training.bundle import UnreadableBundle

HOUR_MS = 3_600_000
FIRST_MS = 1_704_067_200_000
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


def hour(n):
    return FIRST_MS + n * HOUR_MS


def test_the_report_of_the_challenger_is_written(contest, make_bundle, tmp_path):
    met, report = contest(make_bundle(), drawn=True)
    assert report.png.startswith(b"\x89PNG")
    assert report.folder == tmp_path / "reports" / "20240111T0000Z"
    assert {path.name for path in report.folder.iterdir()} == {
        "report.html",
        "report.png",
        "metrics.json",
        "predictions.parquet",
    }
    assert met.made_at == hour(240)
    assert "version 2" in (report.folder / "report.html").read_text()
    assert report.strategy == met.challenger.metrics


def test_the_picture_of_a_contest_of_87_dates_is_drawn_without_a_warning(contest, make_bundle):
    # From 85 to 95 hours matplotlib finds no step of a day or less for 4 to 8 ticks.
    _, report = contest(make_bundle(seen_until=hour(150)), drawn=True)
    assert report.png.startswith(b"\x89PNG")


def test_the_dates_start_after_what_the_challenger_has_seen(contest, make_bundle):
    met, _ = contest(make_bundle(seen_until=hour(160)))
    assert met.first_made_at == hour(160)
    assert met.last_made_at == hour(236)
    assert met.anchors == 77


def test_the_dates_start_after_what_the_champion_has_seen_too(contest, make_bundle):
    challenger, champion = make_bundle(), make_bundle(seed=1, seen_until=hour(170))
    met, _ = contest(challenger, champion)
    assert met.first_made_at == hour(170)
    assert met.anchors == 67
    assert met.champion_absent == ""


def test_both_are_measured_on_the_same_dates(contest, make_bundle):
    met, _ = contest(make_bundle(), make_bundle(seed=1))
    assert met.challenger.version == "2"
    assert met.champion.version == "1"
    assert met.challenger.metrics.bars_count == met.champion.metrics.bars_count == met.anchors
    assert met.challenger.loss != met.champion.loss


def test_a_model_beside_itself_gets_the_same_figures(contest, make_bundle):
    met, _ = contest(make_bundle(), make_bundle())
    assert dataclasses.replace(met.champion, version="2") == met.challenger


def test_the_predictions_are_kept_one_row_per_date_and_symbol(contest, make_bundle, frame):
    met, report = contest(make_bundle())
    rows = pq.read_table(report.folder / "predictions.parquet")
    assert rows.column_names == ["made_at", "symbol", "prediction", "label", "model_version"]
    assert rows.num_rows == met.anchors * 3
    chosen_N = np.flatnonzero((frame.made_at_N >= hour(120)) & frame.known_N)
    assert rows["made_at"].to_pylist() == np.repeat(frame.made_at_N[chosen_N], 3).tolist()
    assert rows["symbol"].to_pylist()[:4] == ["BTCUSDT", "ETHUSDT", "SOLUSDT", "BTCUSDT"]
    assert rows["label"].to_pylist() == frame.label_NS[chosen_N].ravel().tolist()
    assert set(rows["model_version"].to_pylist()) == {"2"}
    predictions_NS = predict_windows(frame, make_bundle(), chosen_N).value_NS
    assert rows["prediction"].to_pylist() == predictions_NS.ravel().tolist()


def test_an_unknown_label_is_null(make_store, make_frame, make_bundle, tmp_path):
    store = make_store(absent={"ETHUSDT": {200}})
    frame = make_frame(store)
    _, report = evaluate_challenger(
        frame, store, Terms(), tmp_path / "reports", ("1", make_bundle()), None
    )
    rows = pq.read_table(report.folder / "predictions.parquet").to_pylist()
    unknown = [(row["made_at"], row["symbol"]) for row in rows if row["label"] is None]
    # The label that ends at the missing bar, and the one that starts at it.
    assert unknown == [(hour(197), "ETHUSDT"), (hour(201), "ETHUSDT")]


@pytest.fixture
def constant_long(make_bundle):
    """Return a model whose every prediction is a rise that asks for the whole position."""
    silent = make_bundle(silent=True, prediction_scale=0.01)
    bias = torch.ones_like(silent.weights["head.linear.bias"])
    return dataclasses.replace(silent, weights={**silent.weights, "head.linear.bias": bias})


@pytest.fixture
def meet_with_gaps(make_store, make_frame, constant_long, tmp_path, monkeypatch):
    """Return a function from absent hours to the constant-long model's contest, rows and weights.

    Weights are those asked for, by the hour of their decision.
    """
    asked = []

    def recording(weights_TS, prices, costs, **options):
        hours = ((prices.start_time_T - FIRST_MS) // HOUR_MS + 1).tolist()
        asked.append(dict(zip(hours, weights_TS.tolist(), strict=True)))
        return simulate(weights_TS, prices, costs, **options)

    def meet(absent):
        store = make_store(absent=absent)
        monkeypatch.setattr("flash_pipeline.evaluation.terms.simulate", recording)
        monkeypatch.setattr("flash_pipeline.backtest.report.four_panel", lambda *_, **__: b"")
        met, report = evaluate_challenger(
            make_frame(store), store, Terms(), tmp_path / "reports", ("1", constant_long), None
        )
        rows = pq.read_table(report.folder / "predictions.parquet").to_pylist()
        return met, rows, asked[0]

    return meet


NOBODY_AT_200 = {symbol: {200} for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")}


def test_a_position_is_kept_where_a_later_candle_is_missing(meet_with_gaps):
    _, rows, weights = meet_with_gaps(NOBODY_AT_200)
    assert {row["label"] for row in rows if row["made_at"] == hour(197)} == {None}
    for made_at in range(123, 201):
        assert weights[made_at] == pytest.approx([1 / 3] * 3, rel=1e-6), made_at


def test_the_dates_are_every_bar_from_the_first_to_the_last_labelled_one(meet_with_gaps):
    met, rows, weights = meet_with_gaps(NOBODY_AT_200)
    assert (met.first_made_at, met.last_made_at, met.anchors) == (hour(120), hour(236), 117)
    assert list(weights) == list(range(120, 237))
    assert [(row["made_at"], row["symbol"]) for row in rows] == [
        (hour(n), symbol) for n in range(120, 237) for symbol in NOBODY_AT_200
    ]


def test_as_live_a_symbol_whose_newest_bar_is_not_known_gets_no_prediction(
    meet_with_gaps, make_store, make_frame, constant_long
):
    absent = {"ETHUSDT": {200}}
    _, rows, _ = meet_with_gaps(absent)
    told = {row["symbol"] for row in rows if row["made_at"] == hour(201) and row["prediction"]}
    live = make_forecast(
        make_frame(make_store(201, absent=absent, name="then")), "1", constant_long
    )
    assert told == set(live["symbol"].to_pylist()) == {"BTCUSDT", "SOLUSDT"}


def test_a_symbol_without_a_prediction_opens_no_position(meet_with_gaps):
    _, _, weights = meet_with_gaps({"ETHUSDT": {200}})
    held = [weights[made_at][1] * 3 for made_at in range(200, 206)]
    assert held == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0], rel=1e-6)
    assert weights[205][0] == pytest.approx(1 / 3, rel=1e-6)


def test_the_quality_of_the_predictions_is_in_the_report(contest, make_bundle):
    met, report = contest(make_bundle(), make_bundle(seed=1))
    shown = json.loads((report.folder / "metrics.json").read_text())["prediction_quality"]
    assert shown["Rank IC"] == met.challenger.quality["rank_ic"]
    assert shown["Loss (regression)"] == met.challenger.loss
    assert shown["Loss of champion, version 1"] == met.champion.loss


@pytest.mark.parametrize(
    ("head", "loss"), [("regression", 1.0), ("direction", math.log(2)), ("allocation", 0.0)]
)
def test_a_model_that_says_nothing_has_the_loss_of_the_naive_answer(
    contest, make_bundle, head, loss
):
    met, _ = contest(make_bundle(head=head, silent=True))
    assert met.challenger.loss == pytest.approx(loss, rel=1e-6)
    assert met.challenger.metrics.trades_count == 0
    assert met.challenger.metrics.total_return_fraction == 0
    assert math.isnan(met.challenger.quality["rank_ic"])


def test_a_quantile_head_is_measured_by_its_pinball_loss_and_coverage(contest, make_bundle):
    told = make_bundle(head="quantile")
    met, report = contest(told)
    assert met.challenger.head == "quantile 0.05 0.25 0.5 0.75 0.95"
    assert 0 <= met.challenger.quality["coverage"] <= 1
    shown = json.loads((report.folder / "metrics.json").read_text())["prediction_quality"]
    assert shown["Loss (quantile 0.05 0.25 0.5 0.75 0.95)"] == met.challenger.loss > 0
    assert (
        shown["Share of returns between the outer quantiles"] == met.challenger.quality["coverage"]
    )


def test_quantiles_of_other_levels_are_compared_by_net_return_alone(contest, make_bundle):
    few = make_bundle(head="quantile", head_options=HeadOptions(quantiles=(0.1, 0.5, 0.9)))
    met, _ = contest(make_bundle(head="quantile"), few)
    against_champion, _ = decide_promotion(met, "1").comparisons
    assert against_champion.loss_difference is None


@pytest.mark.parametrize("head", ["regression", "direction", "quantile"])
def test_the_tracks_have_the_figures_of_the_contest_date_by_date(contest, make_bundle, head):
    met, _ = contest(make_bundle(head=head), make_bundle(seed=1, head=head))
    for track, contestant in (
        (met.tracks.challenger, met.challenger),
        (met.tracks.champion, met.champion),
    ):
        assert track.name == contestant.version
        assert np.prod(1 + track.net_return_T) - 1 == pytest.approx(
            contestant.metrics.total_return_fraction
        )
        assert track.loss_T.mean() == pytest.approx(contestant.loss)
        assert track.made_at_T.tolist() == [hour(n) for n in range(120, 237)]
        assert (track.horizon, track.measured_as) == (4, contestant.head)


def test_an_allocation_has_no_losses_to_compare(contest, make_bundle):
    track = contest(make_bundle(head="allocation"))[0].tracks.challenger
    assert np.isnan(track.loss_T).all()
    assert track.measured_as == ""


def test_a_champion_that_cannot_be_read_is_unfit_and_replaced_with_the_reason(
    frame, store, make_bundle, tmp_path, monkeypatch
):
    monkeypatch.setattr("flash_pipeline.backtest.report.four_panel", lambda *_, **__: b"")
    old = UnreadableBundle("it holds a bundle of format 1: expected 2")
    met, _ = evaluate_challenger(
        frame, store, Terms(), tmp_path / "reports", ("2", make_bundle()), ("1", old)
    )
    assert met.champion is None
    assert met.champion_unfit
    decision = decide_promotion(met, "1")
    assert decision.promoted
    assert decision.reason.startswith("champion 1 cannot be read, it holds a bundle of format 1")


def test_an_allocation_is_measured_by_the_sharpe_ratio_of_its_backtest(contest, make_bundle):
    met, _ = contest(make_bundle(head="allocation"))
    assert met.challenger.loss == -met.challenger.metrics.sharpe_annual


def test_two_models_with_other_target_scales_are_measured_in_one_unit(contest, make_bundle):
    double = make_bundle()
    scaler = dataclasses.replace(double.targets, std_S=double.targets.std_S * 2)
    weights = dict(double.weights)
    for name in ("head.linear.weight", "head.linear.bias"):
        weights[name] = weights[name] / 2
    same = dataclasses.replace(double, targets=scaler, weights=weights)
    met, _ = contest(make_bundle(), same)
    assert met.champion.loss == pytest.approx(met.challenger.loss, rel=1e-5)


def test_without_a_champion_the_challenger_stands_alone(contest, make_bundle):
    met, _ = contest(make_bundle())
    assert met.champion is None
    assert met.champion_absent == "there is no champion yet"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"synthetic": False}, "was trained on candles of another kind"),
        ({"feature_names": ("rsi",)}, "takes the features rsi (the windows: "),
        ({"horizon": 5}, "predicts 5 bars ahead (the windows: 4)"),
        ({"symbols": ("BTCUSDT", "ETHUSDT")}, "predicts BTCUSDT, ETHUSDT (the windows: BTCUSDT, "),
        ({"interval": "30"}, "takes candles of interval 30 (the windows: 60)"),
        ({"lookback": 32}, "needs 32 bars (the windows: 16)"),
        ({"seen_until": FIRST_MS + 190 * HOUR_MS}, "fewer than 48 dates follow what both"),
    ],
)
def test_a_champion_that_cannot_be_compared_is_absent_with_the_reason(
    contest, make_bundle, change, reason
):
    met, _ = contest(make_bundle(), make_bundle(seed=1, **change))
    assert met.champion is None
    assert reason in met.champion_absent
    assert met.first_made_at == hour(120)


@pytest.mark.parametrize(
    ("change", "promoted", "reason"),
    [
        ({"synthetic": False}, True, "champion 1 was trained on candles of another kind"),
        ({"feature_names": ("rsi",)}, True, "champion 1 takes the features rsi (the windows: "),
        ({"horizon": 5}, False, "not comparable: champion 1 predicts 5 bars ahead"),
        (
            {"symbols": ("BTCUSDT", "ETHUSDT")},
            False,
            "not comparable: champion 1 predicts BTCUSDT, ETHUSDT",
        ),
        ({"interval": "30"}, False, "not comparable: champion 1 takes candles of interval 30"),
        ({"lookback": 32}, False, "not comparable: champion 1 needs 32 bars (the windows: 16)"),
        ({"seen_until": FIRST_MS + 190 * HOUR_MS}, False, "not comparable: fewer than 48 dates"),
    ],
)
def test_only_a_champion_that_can_never_predict_again_is_replaced_unmeasured(
    contest, make_bundle, tmp_path, change, promoted, reason
):
    met, _ = contest(make_bundle(), make_bundle(seed=1, **change))
    met.save(tmp_path / "contest.json")
    decision = decide_promotion(Contest.load(tmp_path / "contest.json"), "1")
    assert met.champion_unfit is decision.promoted is promoted
    assert not decision.forced
    assert decision.reason.startswith(reason)


def test_a_champion_with_a_shorter_lookback_is_comparable(contest, make_bundle):
    met, _ = contest(make_bundle(), make_bundle(seed=1, lookback=8))
    assert met.champion_absent == ""
    assert met.champion.metrics.bars_count == met.anchors


def test_a_champion_of_another_head_is_comparable(contest, make_bundle):
    met, _ = contest(make_bundle(), make_bundle(head="direction"))
    assert (met.challenger.head, met.champion.head) == ("regression", "direction")


def test_too_few_dates_for_the_challenger_are_refused(contest, make_bundle):
    with pytest.raises(NotEnoughHistory, match=r"47 labelled dates follow.*version 2.*expected 48"):
        contest(make_bundle(seen_until=hour(190)))


def test_as_few_dates_as_asked_for_are_enough(contest, make_bundle):
    assert contest(make_bundle(seen_until=hour(189)))[0].anchors == 48


def test_the_live_forecast_is_the_backtests_prediction_for_the_same_hour(
    contest, make_store, make_frame, make_bundle
):
    _, report = contest(make_bundle())
    rows = pq.read_table(report.folder / "predictions.parquet").to_pylist()
    told = {row["symbol"]: row["prediction"] for row in rows if row["made_at"] == hour(200)}
    then = make_frame(make_store(200, name="then"))
    live = make_forecast(then, "2", make_bundle()).to_pylist()
    assert {row["made_at"] for row in live} == {hour(200)}
    assert {row["symbol"]: row["prediction"] for row in live} == pytest.approx(told, rel=1e-4)


def test_an_allocation_model_may_use_the_leverage_of_its_cap(contest, make_bundle):
    options = HeadOptions(gross_cap=2.5)
    bundle = make_bundle(head="allocation", silent=True, head_options=options)
    full = {**bundle.weights, "head.linear.bias": torch.full((3,), 20.0)}
    met, _ = contest(dataclasses.replace(bundle, weights=full))
    assert 2 < met.challenger.metrics.mean_gross_exposure_multiple <= 2.5
