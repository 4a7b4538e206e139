"""What holds for every baseline, on the planted market: see the conftest of the training."""

import dataclasses
import json

import numpy as np
import pytest

from flash_pipeline.errors import BundleMismatch, InvalidConfig
from flash_pipeline.training.baselines import BASELINES, Ridge, Zero, load_baseline
from flash_pipeline.training.baselines.raw import frame_of
from flash_pipeline.windows import SplitConfig, chronological_split

pytestmark = pytest.mark.parametrize("kind", BASELINES.values(), ids=BASELINES)


@pytest.fixture(scope="session")
def market(make_panel, cut):
    """Return windows of 800 bars and their split."""
    frame = cut(make_panel(800))
    return frame, chronological_split(frame, SplitConfig())


def until(panel, bars):
    return dataclasses.replace(
        panel,
        start_time_T=panel.start_time_T[:bars],
        x_TSF=panel.x_TSF[:bars],
        close_TS=panel.close_TS[:bars],
    )


def test_it_predicts_a_number_for_every_window_and_symbol(kind, market):
    frame, split = market
    told = kind.fit(frame, split).predict(frame, split.test_N)
    assert told.value_NS.shape == (len(split.test_N), 2)
    assert told.value_NS.dtype == np.float32
    assert np.isfinite(told.value_NS).all()
    assert told.quantiles_NSQ is None


def test_it_predicts_the_same_from_its_files(kind, market, tmp_path):
    frame, split = market
    model = kind.fit(frame, split)
    model.save(tmp_path)
    loaded = load_baseline(tmp_path)
    assert type(loaded) is kind
    assert loaded.head == model.head == "regression"
    for one in (loaded, kind.load(tmp_path)):
        expected = model.predict(frame, split.test_N).value_NS
        np.testing.assert_array_equal(one.predict(frame, split.test_N).value_NS, expected)


def test_it_predicts_the_same_from_single_windows(kind, market):
    frame, split = market
    model, chosen = kind.fit(frame, split), split.test_N[[40, 3, 4]]
    made_at_N = frame.made_at_N[chosen] if kind.timed else np.zeros(3, np.int64)
    alone, index_N = frame_of(model.inputs, frame.batch(chosen), made_at_N)
    expected_NS = model.predict(frame, chosen).value_NS
    np.testing.assert_allclose(model.predict(alone, index_N).value_NS, expected_NS, rtol=1e-6)


def test_single_windows_of_another_shape_are_refused(kind, market):
    frame, split = market
    inputs, x_NLI = kind.fit(frame, split).inputs, frame.batch(split.test_N[:3])
    with pytest.raises(BundleMismatch, match=r"windows of shape \(3, 7, 10\): expected \(n, 8, 10"):
        frame_of(inputs, x_NLI[:, 1:], np.zeros(3, np.int64))
    with pytest.raises(BundleMismatch, match=r"made_at of shape \(2,\) for 3 windows"):
        frame_of(inputs, x_NLI, np.zeros(2, np.int64))


def test_its_files_are_no_pickle(kind, market, tmp_path):
    frame, split = market
    kind.fit(frame, split).save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".txt", ".safetensors"}


def test_the_same_data_give_the_same_predictions(kind, market):
    frame, split = market
    first, second = (kind.fit(frame, split).predict(frame, split.test_N) for _ in range(2))
    np.testing.assert_array_equal(first.value_NS, second.value_NS)


def test_what_comes_after_the_validation_changes_nothing_before_it(kind, make_panel, cut):
    clean = make_panel(800)
    frame = cut(clean)
    split = chronological_split(frame, SplitConfig())
    last = int(split.validation_N[-1]) + frame.lookback - 1
    poisoned = dataclasses.replace(clean, x_TSF=clean.x_TSF.copy(), close_TS=clean.close_TS.copy())
    poisoned.x_TSF[last + 1 :] = 1e3
    poisoned.close_TS[last + 2 :] *= 7.0  # the last validation label ends one bar later
    other = cut(poisoned)
    past_N = np.arange(split.validation_N[-1] + 1)
    expected = kind.fit(frame, split).predict(frame, past_N).value_NS
    np.testing.assert_array_equal(kind.fit(other, split).predict(other, past_N).value_NS, expected)


def test_a_live_forecast_is_the_one_of_the_backtest(kind, make_panel, cut):
    panel = make_panel(800)
    frame, live = cut(panel), cut(until(panel, 700))
    split = chronological_split(live, SplitConfig())
    model = kind.fit(live, split)
    newest = len(live.anchor_N) - 1
    told = model.predict(live, np.array([newest])).value_NS
    later = model.predict(frame, np.arange(newest - 50, newest + 51)).value_NS[50:51]
    np.testing.assert_allclose(told, later, rtol=1e-6)


def test_gaps_leave_every_prediction_a_number(kind, make_panel, cut):
    panel = make_panel(800)
    for gap in (100, 101, (300, 1), 650, (790, 0)):
        panel.x_TSF[gap], panel.close_TS[gap] = np.nan, np.nan
    frame = cut(panel)
    split = chronological_split(frame, SplitConfig())
    told = kind.fit(frame, split).predict(frame, np.arange(len(frame.anchor_N))).value_NS
    assert np.isfinite(told).all()


def test_windows_of_another_horizon_are_refused(kind, market, make_panel, cut):
    frame, split = market
    model = kind.fit(frame, split)
    with pytest.raises(BundleMismatch, match=r"1 bars ahead .* the windows have .*, 3 and 8"):
        model.predict(cut(make_panel(), horizon=3), np.array([0]))


def test_windows_of_other_symbols_are_refused(kind, market):
    frame, split = market
    model = kind.fit(frame, split)
    other = dataclasses.replace(frame, symbols=("BTCUSDT", "SOLUSDT"))
    with pytest.raises(BundleMismatch, match="fitted on BTCUSDT, ETHUSDT 1 bars ahead"):
        model.predict(other, np.array([0]))


def test_windows_without_log_returns_are_refused(kind, market):
    frame, split = market
    names = ("price", *frame.features[1:])
    with pytest.raises(InvalidConfig, match="baselines expect log_return among them"):
        kind.fit(dataclasses.replace(frame, features=names), split)


def test_a_folder_without_a_baseline_is_refused(kind, tmp_path):
    with pytest.raises(BundleMismatch, match="holds no baseline"):
        kind.load(tmp_path)


def test_an_incomplete_description_is_refused(kind, market, tmp_path):
    frame, split = market
    kind.fit(frame, split).save(tmp_path)
    path = tmp_path / "baseline.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["inputs"]
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(BundleMismatch, match="incomplete baseline: 'inputs'"):
        load_baseline(tmp_path)


def test_a_description_of_another_format_or_kind_is_refused(kind, market, tmp_path):
    frame, split = market
    kind.fit(frame, split).save(tmp_path)
    path = tmp_path / "baseline.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**values, "format": 0}), encoding="utf-8")
    with pytest.raises(BundleMismatch, match="of format 0: expected 1"):
        load_baseline(tmp_path)
    path.write_text(json.dumps({**values, "kind": "oracle"}), encoding="utf-8")
    with pytest.raises(BundleMismatch, match="of kind 'oracle': expected one of zero"):
        load_baseline(tmp_path)
    with pytest.raises(BundleMismatch, match="a oracle baseline: expected"):
        (Ridge if kind is Zero else Zero).load(tmp_path)


def test_its_name_is_its_kind(kind):
    assert BASELINES[kind.kind] is kind
