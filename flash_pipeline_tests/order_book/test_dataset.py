from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from flash_pipeline.errors import DataError, InvalidConfig, NotEnoughHistory
from flash_pipeline.model.order_book import OrderBookModel
from flash_pipeline.order_book.dataset import BookWindowConfig, BookWindows
from flash_pipeline.order_book.features import (
    MID_MOVE,
    BookScale,
    book_features,
    fit_scales,
    imbalance,
    level_ages,
    mid_moves,
)
from flash_pipeline.order_book.labels import balanced_thresholds, classify, forward_moves
from flash_pipeline.order_book.prepared import prepare_book, split_bounds
from flash_pipeline.order_book.snapshots import join_series, series_of_prices
from flash_pipeline.training.book_models import batches_of
from flash_pipeline.training.loop import fit
from flash_pipeline.training.recipes import TrainConfig
from flash_pipeline.windows.split import SplitConfig
from flash_pipeline_tests.order_book.conftest import START, made_series

CONFIG = BookWindowConfig(
    history_length=8, levels=3, horizons=(1, 4), threshold_bp=(0.0, 2.0), cadence_ms=1000
)


def windows(*series, config=CONFIG) -> BookWindows:
    return BookWindows(series, fit_scales(series, START + 10**9), config)


def test_a_window_is_the_snapshots_up_to_its_end():
    series = made_series(40)
    cut = windows(series)
    assert len(cut) == 33
    batch = cut.batch(torch.tensor([0, 20]))
    assert batch.book_BTLSF.shape == (2, 8, 3, 2, 4)
    assert batch.book_BTLSF.dtype == torch.float32
    assert batch.valid_BTLS is None
    features = book_features(series, BookScale.fit(series))
    assert np.array_equal(batch.book_BTLSF[1].numpy(), features[20:28])
    assert cut.time_N[20] == series.time_T[27]


def test_windows_are_views_of_one_array():
    cut = windows(made_series(40))
    one, other = cut.window(0), cut.window(1)
    assert one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
    assert torch.equal(one[1:], other[:-1])


def test_labels_say_where_the_mid_price_goes_and_minus_1_where_nobody_knows():
    series = made_series(40)
    cut = windows(series)
    last = cut.end_N
    for h, (horizon, limit) in enumerate(((1, 0.0), (4, 2.0))):
        for n, t in enumerate(last):
            if t + horizon >= 40:
                assert cut.label_NH[n, h] == -1
                continue
            move = (series.mid_T[t + horizon] / series.mid_T[t] - 1) * 1e4
            assert cut.label_NH[n, h] == (2 if move > limit else 0 if move < -limit else 1)
    assert cut.batch(torch.arange(5)).label_BH.dtype == torch.int64


def test_dense_labels_are_those_of_every_snapshot():
    cut = windows(made_series(40), made_series(30, symbol="ETHUSDT", start=START + 500))
    index = torch.arange(len(cut))
    dense = cut.batch(index, dense=True).label_BH
    assert dense.shape == (len(cut), 8, 2)
    assert torch.equal(dense[:, -1], cut.batch(index).label_BH)
    by_end = {int(end): label for end, label in zip(cut.end_N, dense[:, -1], strict=True)}
    for end, label_T in zip(cut.end_N.tolist(), dense, strict=True):
        for back in range(8):
            if end - back in by_end:
                assert torch.equal(label_T[-1 - back], by_end[end - back])


@pytest.mark.parametrize("until_gap", [80, 2, 1])
def test_no_dense_label_of_training_knows_of_what_comes_after_it(until_gap):
    # The bound is at snapshot 120. Where a gap follows it closely, the longest label of the last
    # snapshots is unknown, and that of earlier ones ends beyond the bound.
    early = made_series(120 + until_gap)
    series = join_series([early, made_series(80, start=START + 300_000, seed=2)])
    bound = int(series.time_T[120])
    scales = fit_scales([series], bound)
    split = BookWindows([series], scales, CONFIG).split_at(bound, START + 340_000)
    train = torch.from_numpy(split.train_N)
    assert len(train) > 100
    price, size = series.price_TLS(), series.book_TLS2[..., 1].astype(float)
    price[series.time_T > bound] += 25.0
    other = series_of_prices("BTCUSDT", series.time_T, series.update_T, price, size, tick_size=0.5)
    expected = BookWindows([series], scales, CONFIG).batch(train, dense=True)
    for each in (series.between(0, bound + 1), other):
        found = BookWindows([each], scales, CONFIG).batch(train, dense=True)
        assert torch.equal(found.label_BH, expected.label_BH)
        assert torch.equal(found.book_BTLSF, expected.book_BTLSF)


def test_no_window_and_no_label_crosses_a_gap_or_another_symbol():
    early, late = made_series(20), made_series(20, start=START + 25_000)
    other = made_series(20, symbol="ETHUSDT", start=START + 500)
    cut = windows(join_series([early, late]), other)
    assert len(cut) == 3 * 13
    for n in range(len(cut)):
        start = cut.end_N[n] - 7
        assert start // 20 == cut.end_N[n] // 20
        assert (cut.label_NH[n, 1] == -1) == (cut.end_N[n] % 20 > 15)
    assert (np.diff(cut.time_N) >= 0).all()


def test_levels_that_do_not_exist_are_masked_and_0():
    whole = made_series(20)
    price, size = whole.price_TLS(), whole.book_TLS2[..., 1].astype(float)
    price[5, 2, 1] = size[5, 2, 1] = np.nan
    thin = series_of_prices("BTCUSDT", whole.time_T, whole.update_T, price, size, tick_size=0.5)
    batch = windows(thin).batch(torch.tensor([0, 12]))
    assert batch.valid_BTLS is not None
    assert not batch.valid_BTLS[0, 5, 2, 1]
    assert batch.valid_BTLS.sum() == batch.valid_BTLS.numel() - 1
    assert (batch.book_BTLSF[0, 5, 2, 1] == 0).all()


def test_the_age_counts_from_the_last_change_of_a_price_s_size():
    price = np.array([[[9.0, 11]], [[9, 11]], [[8, 11]], [[9, 11]], [[9, 11]]])
    size = np.array([[[1.0, 1]], [[1, 1]], [[1, 2]], [[1, 2]], [[1, 2]]])
    time = START + 1000 * np.arange(5)
    series = series_of_prices("BTCUSDT", time, np.arange(5), price, size, tick_size=1)
    assert level_ages(series)[:, 0].tolist() == [[0, 0], [1, 1], [0, 0], [0, 1], [1, 2]]


def test_features_of_the_past_do_not_change_with_the_future():
    series = made_series(60)
    scale = BookScale.fit(series)
    early = series.between(START, START + 30_000)
    assert np.array_equal(book_features(early, scale), book_features(series, scale)[:30])


def test_no_label_of_a_range_ends_in_the_next_one():
    cut = windows(made_series(200), made_series(200, symbol="ETHUSDT", seed=3))
    split = cut.split(SplitConfig(train=0.6, validation=0.2, embargo=2))
    parts = (split.train_N, split.validation_N, split.test_N)
    for part, following in pairwise(parts):
        assert cut.time_N[part].max() + (4 + 2) * 1000 <= cut.time_N[following].min()
    assert {0, 1} == set(cut.symbol_N[split.test_N])


def test_balanced_thresholds_leave_a_third_flat():
    move = np.random.default_rng(0).standard_normal((3000, 2)) * [1, 5]
    label = classify(move, balanced_thresholds(move))
    assert np.allclose((label == 1).mean(axis=0), 1 / 3, atol=0.01)


def test_a_threshold_lies_between_two_sizes_of_a_move_whatever_the_price_level():
    random = np.random.default_rng(0)
    steps = random.integers(-3, 4, (4000, 1))
    low, high = (steps * 0.5 / mid * 1e4 for mid in (1000.0, 1080.0))
    limit = balanced_thresholds(low)
    assert np.array_equal(classify(low, limit), classify(high, limit))
    assert (classify(low, limit) == 1).mean() == pytest.approx(3 / 7, abs=0.03)  # -1, 0, 1
    assert balanced_thresholds(np.zeros((5, 1))) == (0.0,)


def test_imbalance_is_between_minus_1_and_1():
    series = made_series(50)
    assert (np.abs(imbalance(series)) <= 1).all()
    size = series.book_TLS2[7, :2, :, 1].sum(axis=0)
    assert imbalance(series, 0, 2)[7] == pytest.approx((size[0] - size[1]) / size.sum())


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(NotEnoughHistory, match="unbroken run of BTCUSDT has 7 snapshots"):
        windows(made_series(7))
    with pytest.raises(DataError, match="2 levels of each side stored"):
        windows(made_series(20, levels=2))
    with pytest.raises(NotEnoughHistory, match="range is empty"):
        windows(made_series(9)).split(SplitConfig())
    for wrong in ({"horizons": (4, 1)}, {"threshold_bp": (0.0,)}, {"history_length": 0}):
        with pytest.raises(InvalidConfig):
            BookWindowConfig(**{"horizons": (1, 4), "threshold_bp": (0.0, 0.0), **wrong})
    with pytest.raises(InvalidConfig, match="horizon 0"):
        forward_moves(made_series(9), (0,), 1000)


def test_ages_and_moves_begin_anew_after_a_gap():
    price = np.array([[[9.0, 11]], [[9, 11]], [[10, 12]], [[10, 12]]])
    time = START + 1000 * np.array([0, 1, 600, 601])
    series = series_of_prices("BTCUSDT", time, np.arange(4), price, np.ones((4, 1, 2)), tick_size=1)
    assert level_ages(series, 1000)[:, 0, 0].tolist() == [0, 1, 0, 1]
    assert mid_moves(series, 1000).tolist() == [0, 0, 0, 0]
    assert mid_moves(series)[2] == pytest.approx(1000)  # one run: from 10 to 11
    features = book_features(series, BookScale.fit(series), 1000)
    assert (features[..., MID_MOVE] == 0).all()


def test_the_move_of_the_mid_joins_the_relative_prices_of_two_snapshots():
    series = made_series(50)
    scale = BookScale.fit(series)
    features = book_features(series, scale)
    best = features[:, 0, 0]
    rise = best[1:, 0] - best[:-1, 0] + best[1:, MID_MOVE]
    true = np.diff(series.price_TLS()[:, 0, 0]) / series.mid_T[:-1] * 1e4 / scale.price_bp
    assert np.allclose(rise, true, atol=0.01 * np.abs(true).max())


def test_scales_of_several_symbols_share_mean_and_deviation_of_log_sizes():
    one, other = made_series(50), made_series(50, symbol="ETHUSDT", seed=3)
    scales = fit_scales([one, other], START + 20_000)
    assert scales["BTCUSDT"].log_size_mean == scales["ETHUSDT"].log_size_mean
    assert scales["BTCUSDT"].log_size_sd == scales["ETHUSDT"].log_size_sd
    later = made_series(50, seed=9)
    joined = join_series([later, one.between(START, START + 20_000)])
    assert fit_scales([joined, other], START + 20_000) == scales


def test_labels_that_come_late_are_purged_by_their_own_time():
    whole = made_series(60)
    late = replace(whole, time_T=START + 1400 * np.arange(60))  # within 1.5 cadences: one run
    cut = windows(late)
    split = cut.split(SplitConfig(train=0.5, validation=0.25))
    ends = late.time_T[cut.end_N[split.train_N] + 4]
    assert ends.max() <= cut.time_N[split.validation_N].min()


def test_a_split_at_midnights_purges_what_reaches_beyond():
    cut = windows(made_series(60))
    split = cut.split_at(START + 30_000, START + 45_000, embargo=2)
    assert cut.label_end_N[split.train_N].max() <= START + 28_000
    assert cut.time_N[split.validation_N].min() == START + 30_000
    assert cut.time_N[split.test_N].min() == START + 45_000


def test_windows_without_a_single_label_are_no_training_range():
    with pytest.raises(NotEnoughHistory, match="training range is empty: 0 labelled"):
        windows(made_series(8)).split(SplitConfig())


def test_snapshots_faster_than_the_cadence_are_refused():
    fast = replace(made_series(60), time_T=START + 100 * np.arange(60))
    with pytest.raises(DataError, match="every 100 ms, cadence_ms=1000"):
        windows(fast)


def test_prepared_windows_learn_from_the_training_range_alone():
    early, late = made_series(300), made_series(300, seed=5, start=START + 300_000)
    config = BookWindowConfig(8, 3, (1, 4), (0.0, 0.0))
    shares = SplitConfig(train=0.4, validation=0.2)
    first = prepare_book([join_series([early, late])], config, shares)
    other = made_series(300, seed=6, start=START + 300_000)
    second = prepare_book([join_series([early, other])], config, shares)
    assert first.scales == second.scales
    assert first.config == second.config
    assert first.bounds == (START + 240_000, START + 360_000)
    assert (first.windows.label_end_N[first.split.train_N] <= first.bounds[0]).all()


def test_ranges_begin_at_midnights_where_there_are_days_enough():
    day = 86_400_000
    parts = [made_series(200, start=START + n * day) for n in range(4)]
    bounds = split_bounds([join_series(parts)], SplitConfig(train=0.5, validation=0.25))
    assert bounds == (START + 2 * day, START + 3 * day)


def test_a_training_takes_the_windows_as_batches():
    book = prepare_book(
        [made_series(120)],
        BookWindowConfig(6, 3, (1, 4), (0.0, 0.0)),
        SplitConfig(train=0.6, validation=0.2),
    )
    assert not book.windows.has_gaps
    model = OrderBookModel(
        3, 6, n_features=4, n_horizons=2, d_model=8, n_heads=1, n_layers=1, d_ff=8
    )
    before = model.head.weight.clone()
    config = TrainConfig(epochs=1, warm_epochs=1, batch_size=8, learning_rate=1e-2)
    fitted = fit(
        model, batches_of(book), book.split.train_N, book.split.validation_N, config, epochs=1
    )
    assert np.isfinite(fitted.history[0].validation_loss)
    assert not model.head.weight.equal(before)


def test_a_book_with_missing_levels_is_a_training_with_a_mask():
    whole = made_series(120)
    book = whole.book_TLS2.copy()
    book[40, 2, 1] = np.nan
    prepared = prepare_book(
        [replace(whole, book_TLS2=book)],
        BookWindowConfig(6, 3, (1, 4), (0.0, 0.0)),
        SplitConfig(train=0.6, validation=0.2),
    )
    batches = batches_of(prepared)
    assert prepared.windows.has_gaps
    assert batches.has_gaps
    _, valid, labels = batches.batch(torch.arange(3))
    assert valid is not None
    assert labels.is_floating_point()
