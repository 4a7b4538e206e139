"""Shape letters: T bars, S symbols."""

import dataclasses

import numpy as np
import pytest

from flash_pipeline import backtest
from flash_pipeline.backtest import Costs
from flash_pipeline.evaluation import trading
from flash_pipeline.evaluation.audits import audit_shift


@pytest.fixture
def audit(frame, store, make_bundle):
    def audit(**changes):
        bundle, dates_N = make_bundle(**changes), np.arange(500, 600)
        told = trading.predict_windows(frame, bundle, dates_N)
        prices = trading.load_prices(frame, store, dates_N)
        return audit_shift(bundle, told, prices, Costs(), np.random.default_rng(0))

    return audit


@pytest.mark.parametrize("head", ["regression", "direction", "quantile", "allocation"])
def test_an_honest_backtest_passes_and_its_pnl_moves_with_the_signals(audit, head):
    found = audit(head=head)
    assert found.passed, found.words
    assert found.checked
    assert set(found.figures) == {"early", "as_is", "late"}
    assert len(set(found.figures.values())) == 3


def test_signals_that_were_moved_a_bar_up_are_caught(audit, monkeypatch):
    honest = trading.size_positions

    def shifted(bundle, told):
        weights_TS = honest(bundle, told)
        return np.vstack([weights_TS[1:], weights_TS[-1:]])

    monkeypatch.setattr(trading, "size_positions", shifted)
    found = audit()
    assert not found.passed
    assert "a position depends on later predictions" in found.words


def test_positions_sized_by_the_whole_range_are_caught(audit, monkeypatch):
    honest = trading.size_positions

    def normalised(bundle, told):
        later_TS = told.value_NS[-20:]
        return honest(bundle, told) * np.float64(0.5 + np.tanh(later_TS[0].sum()) / 4)

    monkeypatch.setattr(trading, "size_positions", normalised)
    assert "a position depends on later predictions" in audit().words


def _root_mean_square(size_NS):
    return np.sqrt((size_NS**2).mean())


def _maximum(size_NS):
    return size_NS.max()


def _quantile(size_NS):
    return np.quantile(size_NS, 0.9)


def _ranks(size_NS):
    order = size_NS.reshape(-1).argsort().argsort().reshape(size_NS.shape)
    return 1 + order / size_NS.size


@pytest.mark.parametrize("head", ["regression", "direction", "quantile", "allocation"])
@pytest.mark.parametrize("statistic", [_root_mean_square, _maximum, _quantile, _ranks])
def test_a_scale_of_the_whole_range_is_caught_though_it_knows_no_order(
    audit, monkeypatch, head, statistic
):
    honest = trading.size_positions

    def scaled(bundle, told):
        size_NS = np.abs(np.nan_to_num(told.value_NS.astype(np.float64)))
        return honest(bundle, told) / (2 + statistic(size_NS))

    monkeypatch.setattr(trading, "size_positions", scaled)
    found = audit(head=head)
    assert found.failed
    assert "a position depends on later predictions" in found.words


def test_rounding_of_the_engine_is_no_leak(audit, monkeypatch, frame, make_bundle):
    """Fills are solved for all bars at once: a later order moves earlier returns by 2e-16."""
    told = trading.predict_windows(frame, make_bundle(), np.arange(500, 600))
    divisor_NS = 2 + _ranks(np.abs(told.value_NS.astype(np.float64)))
    honest = trading.size_positions
    monkeypatch.setattr(trading, "size_positions", lambda *given: honest(*given) / divisor_NS)
    found = audit()
    assert found.passed, found.words


def test_an_engine_that_fills_at_the_close_of_the_signal_is_caught(audit, monkeypatch):
    honest = backtest.simulate

    def early(weights_TS, prices, costs, **options):
        return honest(np.vstack([weights_TS[1:], weights_TS[-1:]]), prices, costs, **options)

    monkeypatch.setattr(backtest, "simulate", early)
    found = audit()
    assert not found.passed
    assert "a bar earns by the position decided at its own close" in found.words


def test_an_engine_that_marks_at_later_prices_is_caught(audit, monkeypatch):
    honest = backtest.simulate

    def late(weights_TS, prices, costs, **options):
        later_TS = np.vstack([prices.close_TS[1:], prices.close_TS[-1:]])
        moved = dataclasses.replace(prices, close_TS=later_TS, low_TS=None, high_TS=None)
        return honest(weights_TS, moved, costs, **options)

    monkeypatch.setattr(backtest, "simulate", late)
    found = audit()
    assert not found.passed
    assert "a bar's return depends on later prices" in found.words


def test_a_pnl_that_does_not_come_from_the_signals_is_caught(audit, monkeypatch):
    honest = backtest.simulate

    def constant(weights_TS, prices, costs, **options):
        return honest(np.full_like(weights_TS, 0.1), prices, costs, **options)

    monkeypatch.setattr(backtest, "simulate", constant)
    found = audit()
    assert not found.passed
    assert "the PnL is the same with the signals moved by a bar" in found.words


def test_a_model_without_a_position_cannot_tell(frame, store, make_bundle):
    bundle, dates_N = make_bundle(), np.arange(500, 600)
    told = trading.predict_windows(frame, bundle, dates_N)
    silent = dataclasses.replace(told, value_NS=np.zeros_like(told.value_NS))
    prices = trading.load_prices(frame, store, dates_N)
    found = audit_shift(bundle, silent, prices, Costs(), np.random.default_rng(0))
    assert found.outcome == "not checked"
