"""The transformer's folds as rows of the backtest report."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from flash_pipeline.backtest import Account, Costs, summarise
from flash_pipeline.evaluation import Terms
from flash_pipeline.evaluation.fold_rows import fold_rows
from flash_pipeline.evaluation.scores import outcomes, rank_ic
from flash_pipeline.evaluation.terms import open_venue
from flash_pipeline.evaluation.trading import gross_cap, load_prices, size_positions
from flash_pipeline.evaluation.walkforward import join_folds, run_fold, write_predictions
from flash_pipeline.windows import WalkForwardConfig, walk_forward

HEADS = ("regression", "quantile", "direction", "allocation")


@pytest.fixture
def walked(frame, tiny_recipe, tmp_path):
    """Return a function that walks through the small market: the file, and what ran."""

    def walked(head="regression", names=("zero", "transformer")):
        recipe, ran = tiny_recipe.with_model(head=head), []
        for fold in walk_forward(frame, WalkForwardConfig(folds=2)):
            ran.append((fold, run_fold(frame, fold, recipe, names)))
            write_predictions(ran[-1][1].table, tmp_path / f"fold-{fold.number}.parquet")
        paths = [tmp_path / f"fold-{fold.number}.parquet" for fold, _ in ran]
        join_folds(paths, tmp_path / "all.parquet")
        return tmp_path / "all.parquet", ran

    return walked


@pytest.fixture
def every_term(frame):
    """Terms of which each changes what is earned; the funding ends within the second fold."""
    row = {"symbol": frame.symbols[0], "qty_step": 0.5, "min_order_qty": 0.5}
    return Terms(
        Costs(fee_rate=0.001, impact=0.1),
        Account(capital=1_000.0),
        gross_cap=0.5,
        symbol_cap=0.2,
        instruments=pa.Table.from_pylist([{**row, "min_notional_value": 10.0}]),
        funding=settlements(frame, until=len(frame.made_at_N) - 20),
    )


def settlements(frame, until=None):
    return pa.Table.from_pylist(
        [
            {"symbol": symbol, "funding_time": int(time), "rate": 0.001 * (1 + s)}
            for s, symbol in enumerate(frame.symbols)
            for time in frame.made_at_N[:until:8]
        ]
    )


@pytest.mark.parametrize("head", HEADS)
def test_a_fold_earns_what_its_own_model_would_have_in_the_report(
    frame, store, walked, every_term, head
):
    path, ran = walked(head)
    plain = fold_rows(path, frame, store, Terms())
    terms = every_term
    rows = fold_rows(path, frame, store, terms)
    assert [row.net_return_fraction for row in rows] != [row.net_return_fraction for row in plain]
    assert [row.name for row in rows] == ["1", "2"]
    for row, (fold, run) in zip(rows, ran, strict=True):
        index_N, network = fold.split.test_N, run.models["transformer"]
        bundle = network.bundle
        weights_NS = size_positions(bundle, network.predict(frame, index_N))
        venue = open_venue(terms, load_prices(frame, store, index_N))
        result = venue.trade(weights_NS, gross_cap(bundle))
        metrics = summarise(result, frame.interval.bars_per_year)
        assert row.net_return_fraction == pytest.approx(metrics.total_return_fraction, rel=1e-5)
        assert row.sharpe_annual == pytest.approx(metrics.sharpe_annual, rel=1e-4)
        assert row.first_made_at == frame.made_at_N[index_N[0]]
        assert row.last_made_at == frame.made_at_N[index_N[-1]]


def test_its_rank_ic_is_that_of_the_scores(frame, store, walked):
    path, ran = walked()
    row = fold_rows(path, frame, store, Terms())[1]
    outcome = next(o for o in outcomes(ran[1][1].table) if o.model == "transformer")
    expected = rank_ic(outcome, frame.horizon)
    found = (row.rank_ic, row.rank_ic_low, row.rank_ic_high)
    assert found == (expected.value, expected.low, expected.high)
    assert expected.low < expected.value < expected.high


def test_costs_and_funding_are_charged(frame, store, walked):
    path, _ = walked("allocation")
    free = Costs(fee_rate=0.0, slippage_rate=0.0)
    funding = settlements(frame)
    without, charged, paid = (
        [row.net_return_fraction for row in fold_rows(path, frame, store, terms)]
        for terms in (Terms(free), Terms(), Terms(free, funding=funding))
    )
    assert np.less(charged, without).all()
    assert not np.allclose(paid, without)


def test_a_fold_that_the_windows_hold_no_more_is_left_out(frame, store, walked):
    path, ran = walked()
    first = ran[1][0].split.test_N[0]
    arrays = ("anchor_N", "block_N", "offset_N", "label_end_N")
    later = dataclasses.replace(frame, **{name: getattr(frame, name)[first:] for name in arrays})
    assert [row.name for row in fold_rows(path, later, store, Terms())] == ["2"]


def test_without_a_fitting_walk_forward_there_are_no_rows(frame, store, walked, tmp_path):
    path, _ = walked()
    assert fold_rows(tmp_path / "none.parquet", frame, store, Terms()) == ()
    for change in ({"horizon": 5}, {"symbols": ("A", "B", "C")}, {"synthetic": False}):
        other = dataclasses.replace(frame, **change)
        assert fold_rows(path, other, store, Terms()) == ()
    path.write_bytes(b"no parquet")
    assert fold_rows(path, frame, store, Terms()) == ()
    assert fold_rows(walked(names=("zero",))[0], frame, store, Terms()) == ()
