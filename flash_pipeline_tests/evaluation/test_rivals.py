"""Shape letters: N anchors, S symbols."""

import dataclasses

import numpy as np
import pytest

from flash_pipeline.backtest import Costs
from flash_pipeline.errors import InvalidConfig
from flash_pipeline.evaluation import evaluate_challenger
from flash_pipeline.evaluation.rivals import fit_rivals, rival_track
from flash_pipeline.evaluation.trading import load_prices
from flash_pipeline.windows import SplitConfig, chronological_split

HOUR_MS = 3_600_000
FIRST_MS = 1_704_067_200_000


@pytest.fixture
def split(frame):
    return chronological_split(frame, SplitConfig())


@pytest.fixture
def ridge(frame, split):
    (rival,) = fit_rivals(frame, split, ["ridge"])
    return rival


@pytest.fixture
def track(frame, store):
    def track(rival, dates_N):
        prices = load_prices(frame, store, dates_N)
        return rival_track(rival, frame, prices, Costs(), dates_N)

    return track


def test_rivals_are_fitted_on_the_ranges_of_the_challenger(frame, split):
    rivals = fit_rivals(frame, split, ["zero", "ridge"])
    assert [rival.name for rival in rivals] == ["zero", "ridge"]
    assert {rival.seen_until for rival in rivals} == {
        int(frame.label_end_N[split.validation_N[-1]])
    }
    assert rivals[0].scale == 0 < rivals[1].scale


def test_an_unknown_baseline_is_named(frame, split):
    with pytest.raises(InvalidConfig, match="baselines oracle are unknown: expected some of zero"):
        fit_rivals(frame, split, ["ridge", "oracle"])


def test_a_rival_is_traded_on_the_dates_at_costs(track, ridge, split):
    found = track(ridge, split.test_N)
    assert found.name == "ridge"
    assert len(found.net_return_T) == len(split.test_N)
    assert found.net_return_T.any()
    assert np.isnan(found.loss_T).all()


def test_a_rival_that_forecasts_nothing_holds_nothing(track, frame, split):
    (zero,) = fit_rivals(frame, split, ["zero"])
    assert not track(zero, split.test_N).net_return_T.any()


@pytest.fixture
def meet(frame, store, make_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("flash_pipeline.backtest.report.four_panel", lambda *_, **__: b"")

    def meet(*rivals):
        return evaluate_challenger(
            frame, store, Costs(), tmp_path / "reports", ("2", make_bundle()), None, rivals
        )[0]

    return meet


def test_holding_nothing_is_a_baseline_and_others_join_it(meet, ridge):
    met = meet(dataclasses.replace(ridge, seen_until=FIRST_MS))
    flat, simple = met.tracks.baselines
    assert (flat.name, simple.name) == ("no position", "ridge")
    assert not flat.net_return_T.any()
    assert flat.made_at_T.tolist() == simple.made_at_T.tolist()
    assert flat.made_at_T.tolist() == met.tracks.challenger.made_at_T.tolist()


def test_no_baseline_is_shown_dates_that_it_has_seen(meet, ridge):
    met = meet(dataclasses.replace(ridge, seen_until=FIRST_MS + 150 * HOUR_MS))
    assert met.first_made_at == FIRST_MS + 150 * HOUR_MS
