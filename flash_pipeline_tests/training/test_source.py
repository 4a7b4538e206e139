"""Windows of a grid of tokens: cutting them, and training on them as on windows of candles.

Shape letters: K moments of a series, T of a window, L levels, S sides, A assets, F inputs.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch

from flash_pipeline.errors import InvalidInput, OutOfMemory
from flash_pipeline.model.order_book import OrderBookModel
from flash_pipeline.model.portfolio import PortfolioModel
from flash_pipeline.training.checkpoint import Checkpoint
from flash_pipeline.training.loop import evaluate, fit
from flash_pipeline.training.memory import memory_explained
from flash_pipeline.training.optimizer import make_optimizer
from flash_pipeline.training.passes import outputs_of
from flash_pipeline.training.recipes import TrainConfig
from flash_pipeline.training.runtime import seeded
from flash_pipeline.training.source import CutBatches, GridBatches
from flash_pipeline.training.step import EagerStep, make_step

CPU = torch.device("cpu")
K, T, LEVELS, ASSETS = 400, 6, 3, 4
TRAIN = TrainConfig(
    epochs=3, warm_epochs=1, batch_size=16, learning_rate=1e-2, ema_decay=0.9, checkpoint_minutes=0
)
SMALL = {"d_model": 16, "n_heads": 2, "n_layers": 2, "d_ff": 32}
TRAIN_N, VALIDATION_N = np.arange(250), np.arange(260, 390)


def book_series():
    """Return a book whose next move is told by the sizes at its best level."""
    generator = torch.Generator().manual_seed(0)
    book = torch.randn(K, LEVELS, 2, 3, generator=generator)
    imbalance = book[:, 0, 0, 1] - book[:, 0, 1, 1]
    label = (1 + imbalance.div(0.8).round().clamp(-1, 1)).long()[:, None].repeat(1, 2)
    label[::17] = -1
    return book, label


def book_batches(valid=None, lookback=T):
    book, label = book_series()
    end_W = torch.arange(lookback - 1, K)
    return GridBatches(book, valid, label, end_W, lookback, CPU)


def market_batches(*, gaps):
    """Return a market in which an asset's input 0 tells its next return."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(K, ASSETS, 3, generator=generator)
    returns = 0.01 * (x[..., 0] + 0.3 * torch.randn(K, ASSETS, generator=generator))
    present = torch.ones(K, ASSETS, dtype=torch.bool)
    if gaps:
        present[:150, 1], present[220:, 2] = False, False
        x[~present], returns[~present] = math.nan, math.nan
    return GridBatches(x, present, returns, torch.arange(T - 1, K), T, CPU)


def make_book(**options):
    with seeded(3):
        return OrderBookModel(LEVELS, T, n_horizons=2, **SMALL, **options)


def make_market(**options):
    with seeded(3):
        return PortfolioModel(ASSETS, T, asset_cap=0.5, **SMALL, **options)


def test_a_window_ends_at_the_moment_that_it_is_named_by():
    book, label = book_series()
    batches = book_batches()
    x, valid, y = batches.batch(torch.tensor([0, 7]))
    assert valid is None
    assert x[1].equal(book[7 : 7 + T])
    known = label[12] >= 0
    assert y[1][known].equal(label[12][known].float())
    assert batches.batch(torch.tensor([7]), dense=True)[2].shape == (1, T, 2)
    assert batches.labels(torch.tensor([7]))[0].nan_to_num(-1).equal(y[1].nan_to_num(-1))
    assert len(batches) == K - T + 1


def test_unknown_labels_are_nan():
    _, label = book_series()
    y = book_batches().labels(torch.arange(K - T + 1))
    assert y.isnan().equal(label[T - 1 :] < 0)


def test_a_mask_that_hides_nothing_is_dropped():
    valid = torch.ones(K, LEVELS, 2, dtype=torch.bool)
    assert not book_batches(valid).has_gaps
    valid[3, 1, 0] = False
    assert book_batches(valid).has_gaps
    assert book_batches(valid).batch(torch.tensor([0]))[1].sum() == T * LEVELS * 2 - 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lookback": 0}, "lookback is 0 of 400"),
        ({"lookback": 401}, "lookback is 401 of 400"),
        ({"end_W": torch.tensor([4])}, r"windows end at \[4, 4\]: expected moments from 5 to 399"),
        ({"end_W": torch.tensor([400])}, r"windows end at \[400, 400\]"),
        ({"end_W": torch.tensor([], dtype=torch.int64)}, "windows end at nothing"),
        ({"targets": torch.zeros(3, 2)}, "expected as many moments of each"),
        ({"valid": torch.ones(K, 2, dtype=torch.bool)}, "expected as many moments of each"),
    ],
)
def test_series_that_do_not_fit_are_refused(changes, message):
    book, label = book_series()
    arguments = {"x": book, "valid": None, "targets": label, "end_W": torch.arange(5, K)}
    with pytest.raises(InvalidInput, match=message):
        GridBatches(**({"lookback": T, "device": CPU} | arguments | changes))


def test_an_input_that_is_there_must_be_finite():
    book, label = book_series()
    book[9, 1, 0, 2] = math.nan
    end_W = torch.arange(T - 1, K)
    with pytest.raises(InvalidInput, match=r"the input at \[9, 1, 0\]"):
        GridBatches(book, None, label, end_W, T, CPU)
    valid = torch.ones(K, LEVELS, 2, dtype=torch.bool)
    valid[9, 1, 0] = False
    assert GridBatches(book, valid, label, end_W, T, CPU).has_gaps


@pytest.mark.parametrize("layout", ["joint", "axial"])
@pytest.mark.parametrize("form", [{}, {"span": "causal", "supervision": "dense"}])
def test_an_order_book_model_finds_what_was_planted(layout, form):
    model, batches = make_book(layout=layout, **form), book_batches()
    before = evaluate(model, batches, VALIDATION_N)
    fitted = fit(model, batches, TRAIN_N, VALIDATION_N, TRAIN, epochs=TRAIN.epochs)
    assert before == pytest.approx(math.log(3), abs=0.05)
    assert fitted.history[-1].validation_loss < (0.6 if form else 0.8) * before
    assert evaluate(model, batches, VALIDATION_N) == min(e.validation_loss for e in fitted.history)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("layout", ["joint", "axial"])
def test_a_portfolio_model_earns_what_was_planted(layout, gaps):
    model, batches = make_market(layout=layout), market_batches(gaps=gaps)
    fit(model, batches, TRAIN_N, VALIDATION_N, TRAIN, epochs=3)
    sharpe = -evaluate(model, batches, VALIDATION_N)  # per hour, net of costs
    assert sharpe > 0.5
    weights = outputs_of(model, batches, VALIDATION_N)
    assert weights.abs().sum(1).max() <= 1.0001
    if gaps:
        assert weights[:, 2].eq(0).all()  # delisted by then


@pytest.mark.parametrize("accumulation", [2, 16])
def test_micro_batches_give_the_gradients_of_the_whole_batch(accumulation):
    results = []
    for parts in (1, accumulation):
        model, batches = make_book(), book_batches()
        config = dataclasses.replace(TRAIN, accumulation=parts)
        step = EagerStep(model, batches, make_optimizer(model, config), config)
        loss = step.differentiate(torch.arange(16))
        results.append([loss, *(weight.grad for weight in model.parameters())])
    torch.testing.assert_close(results[0], results[1])


class Killed(Exception):
    pass


@pytest.mark.parametrize("make", ["book", "market"])
def test_a_killed_training_goes_on_as_if_nothing_had_happened(tmp_path, make):
    def run(checkpoint=None, kill_after=None):
        model = make_book(dropout=0.1) if make == "book" else make_market(dropout=0.1)
        batches = book_batches() if make == "book" else market_batches(gaps=True)

        def on_epoch(epoch):
            if epoch.number == kill_after and (checkpoint is None or not checkpoint.resumed):
                raise Killed

        with seeded(5):
            fitted = fit(
                model,
                batches,
                TRAIN_N,
                VALIDATION_N,
                TRAIN,
                epochs=3,
                on_epoch=on_epoch,
                checkpoint=checkpoint,
            )
        return fitted.history, model.state_dict()

    def checkpoint():
        return Checkpoint(tmp_path, "test", "random weights", 0)

    history, state = run()
    with pytest.raises(Killed):
        run(checkpoint(), kill_after=2)
    resumed = checkpoint()
    again_history, again_state = run(resumed)
    assert resumed.resumed is not None
    assert again_history == history
    assert all(again_state[name].equal(state[name]) for name in state)


def test_a_step_says_what_is_against_capturing_it():
    model, batches = make_market(), market_batches(gaps=True)
    config = dataclasses.replace(TRAIN, compile=True)
    step = make_step(model, batches, make_optimizer(model, config), config)
    assert step.form == "eager: the device is cpu"
    assert step.attention == model.attention_choice


def test_too_little_memory_is_explained_by_tokens():
    model = PortfolioModel(n_heads=2)
    message = r"16 windows x 2048 bars .* about 5\d\.\d GiB"
    with pytest.raises(OutOfMemory, match=message), memory_explained(model, TRAIN, 2048):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_all_targets_at_once_cut_no_window():
    def cut(_index_N, *, dense=False):
        raise AssertionError("a window was cut")

    label = torch.tensor([[0], [-1], [2]])
    batches = CutBatches(cut, CPU, T, targets=lambda index_N: label[index_N], has_gaps=False)
    assert batches.labels(torch.tensor([2, 1, 0])).nan_to_num(-9).flatten().tolist() == [2, -9, 0]


def test_windows_that_others_cut_are_trained_on_alike():
    own = book_batches()
    _, label = book_series()

    def cut(index_N, *, dense=False):
        last_N = index_N + T - 1
        place = last_N[:, None] + torch.arange(1 - T, 1) if dense else last_N
        return *own.batch(index_N)[:2], label[place]

    batches = CutBatches(
        cut, CPU, T, targets=lambda index_N: label[index_N + T - 1], has_gaps=False
    )
    losses = [evaluate(make_book(), each, VALIDATION_N) for each in (own, batches)]
    assert losses[0] == losses[1]
    config = dataclasses.replace(TRAIN, accumulation=2)
    model = make_book()
    step = make_step(model, batches, make_optimizer(model, config), config)
    assert step(torch.arange(16))[0].isfinite()
    index_N = torch.arange(3)
    for mine, theirs in zip(
        batches.batch(index_N, dense=True), own.batch(index_N, dense=True), strict=True
    ):
        assert mine is theirs is None or torch.equal(mine.nan_to_num(-9), theirs.nan_to_num(-9))
