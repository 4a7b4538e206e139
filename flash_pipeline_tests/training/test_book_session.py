"""Which champion's forecasts are compared with new ones."""

import dataclasses

import pytest
import torch

from flash_pipeline.model.order_book import OrderBookModel
from flash_pipeline.training.book_models import prepare_for
from flash_pipeline.training.book_recipes import demo_book_recipe
from flash_pipeline.training.book_session import comparable, describe
from flash_pipeline.training.grid_bundle import GridBundle
from flash_pipeline_tests.order_book.conftest import made_series


@pytest.fixture(scope="module")
def champion():
    """Return a bundle that was fitted on these windows, and the windows."""
    recipe = demo_book_recipe()
    model = dataclasses.replace(recipe.model, n_levels=3, history_length=4, d_model=16)
    recipe = dataclasses.replace(recipe, model=model, stride=1, horizons=(1, 2, 3))
    series = [made_series(300)]
    book = prepare_for(recipe, series, torch.device("cpu"))
    details = describe(book, recipe, series, synthetic=True)
    return GridBundle.of(OrderBookModel.of(model), details), book


def test_a_champion_of_the_same_classes_that_has_not_seen_the_windows_is_compared(champion):
    bundle, book = champion
    assert comparable(bundle, book)


def test_thresholds_that_put_no_move_into_another_class_are_the_same(champion):
    bundle, book = champion
    for factor, expected in ((1.0001, True), (100.0, False)):
        limits = [factor * limit for limit in bundle.details["threshold_bp"]]
        other = dataclasses.replace(bundle, details={**bundle.details, "threshold_bp": limits})
        assert comparable(other, book) is expected


def test_one_that_has_seen_a_held_out_window_or_does_not_say_is_not(champion):
    bundle, book = champion
    first = int(book.windows.time_N[book.split.test_N[0]])
    seen = dataclasses.replace(bundle, details={**bundle.details, "seen_until": first + 1})
    silent = dict(bundle.details)
    del silent["seen_until"]
    assert not comparable(seen, book)
    assert not comparable(dataclasses.replace(bundle, details=silent), book)


@pytest.mark.parametrize("other", [{"horizons": [1, 2, 4]}, {"cadence_ms": 100}, {"scales": {}}])
def test_one_that_predicts_something_else_is_not(champion, other):
    bundle, book = champion
    details = {**bundle.details, **other}
    assert not comparable(dataclasses.replace(bundle, details=details), book)
