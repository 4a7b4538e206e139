"""Shape letters: N anchors, S symbols."""

import dataclasses

import numpy as np
import pytest

from flash_pipeline.evaluation import Terms, evaluate_challenger
from flash_pipeline.evaluation.rivals import gather_rivals, trade_rival
from flash_pipeline.evaluation.terms import open_venue
from flash_pipeline.evaluation.trading import load_prices
from flash_pipeline.training.baselines import BASELINES
from flash_pipeline.windows import SplitConfig, chronological_split

HOUR_MS = 3_600_000
FIRST_MS = 1_704_067_200_000


@pytest.fixture
def split(frame):
    return chronological_split(frame, SplitConfig())


@pytest.fixture
def fitted(frame, split):
    """Return a function that fits baselines and makes rivals of them."""

    def fitted(*names):
        models = {name: BASELINES[name].fit(frame, split) for name in names}
        return gather_rivals(frame, split, models, {}).rivals

    return fitted


@pytest.fixture
def ridge(fitted):
    (rival,) = fitted("ridge")
    return rival


@pytest.fixture
def traded(frame, store):
    def traded(rival, dates_N):
        venue = open_venue(Terms(), load_prices(frame, store, dates_N))
        return trade_rival(rival, frame, venue, dates_N)

    return traded


def test_rivals_have_seen_the_ranges_of_the_challenger_and_know_their_own_size(
    frame, split, fitted
):
    rivals = fitted("zero", "ridge")
    assert [rival.name for rival in rivals] == ["zero", "ridge"]
    assert {rival.seen_until for rival in rivals} == {
        int(frame.label_end_N[split.validation_N[-1]])
    }
    assert rivals[0].scale == 0 < rivals[1].scale


def test_why_one_is_absent_is_a_remark_of_the_report(frame, split):
    reason = "LightGBM cannot be loaded: libgomp.so.1"
    field = gather_rivals(frame, split, {}, {"boosting": reason})
    assert field.rivals == ()
    assert field.remarks == (("No baseline boosting", reason),)


def test_one_that_cannot_predict_is_absent_with_the_reason(frame, split, monkeypatch):
    models = {name: BASELINES[name].fit(frame, split) for name in ("zero", "ridge")}

    def broken(*_):
        raise RuntimeError("no such column")

    monkeypatch.setattr(type(models["ridge"]), "predict", broken)
    field = gather_rivals(frame, split, models, {"boosting": "not here"})
    assert [rival.name for rival in field.rivals] == ["zero"]
    assert field.absent == {"boosting": "not here", "ridge": "RuntimeError: no such column"}


def test_a_rival_is_traded_on_the_dates_at_costs(traded, ridge, split):
    found = traded(ridge, split.test_N)
    assert len(found.returns_T) == len(split.test_N)
    assert found.returns_T.any()
    assert found.costs_T.sum() > 0


def test_a_rival_that_forecasts_nothing_holds_nothing(traded, fitted, split):
    (zero,) = fitted("zero")
    assert traded(zero, split.test_N).n_trades == 0


@pytest.fixture
def meet(frame, store, make_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("flash_pipeline.backtest.report.four_panel", lambda *_, **__: b"")

    def meet(*rivals):
        return evaluate_challenger(
            frame, store, Terms(), tmp_path / "reports", ("2", make_bundle()), None, rivals
        )

    return meet


def test_holding_nothing_is_a_baseline_and_others_join_it(meet, ridge):
    met, _ = meet(dataclasses.replace(ridge, seen_until=FIRST_MS))
    flat, simple = met.tracks.baselines
    assert (flat.name, simple.name) == ("no position", "ridge")
    assert not flat.net_return_T.any()
    assert flat.made_at_T.tolist() == simple.made_at_T.tolist()
    assert flat.made_at_T.tolist() == met.tracks.challenger.made_at_T.tolist()


def test_the_report_has_the_baselines_on_the_same_dates(meet, ridge):
    met, report = meet(dataclasses.replace(ridge, seen_until=FIRST_MS))
    simple = met.tracks.baselines[1]
    assert report.baselines["ridge"].bars_count == report.strategy.bars_count == met.anchors
    assert report.baselines["ridge"].total_return_fraction == pytest.approx(
        np.prod(1 + simple.net_return_T) - 1
    )


def test_no_baseline_is_shown_dates_that_it_has_seen(meet, ridge):
    met, _ = meet(dataclasses.replace(ridge, seen_until=FIRST_MS + 150 * HOUR_MS))
    assert met.first_made_at == FIRST_MS + 150 * HOUR_MS


def test_a_baseline_that_leaves_too_few_dates_stays_away_and_the_report_says_so(meet, ridge):
    met, report = meet(dataclasses.replace(ridge, seen_until=FIRST_MS + 200 * HOUR_MS))
    assert met.first_made_at == FIRST_MS + 120 * HOUR_MS
    assert [track.name for track in met.tracks.baselines] == ["no position"]
    assert dict(report.assumptions)["Baselines left out"].startswith("ridge: fewer than 48 dates")
