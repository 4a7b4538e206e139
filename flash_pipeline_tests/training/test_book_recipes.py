import json

import pytest

from flash_pipeline.errors import InvalidConfig, UnknownRecipe
from flash_pipeline.order_book.features import FEATURES
from flash_pipeline.training.book_recipes import (
    BOOK_RECIPES,
    CODE,
    INPUTS,
    VARIANTS,
    demo_book_recipe,
    full_book_recipe,
    get_book_recipe,
)
from flash_pipeline.training.portfolio_recipes import PORTFOLIO_RECIPES, get_portfolio_recipe
from flash_pipeline.training.recipes import RECIPES, get_recipe
from flash_pipeline.training.sources import code_hash


def test_inputs_are_those_of_the_windows():
    assert INPUTS == FEATURES


def test_full_is_the_chapter_s_size():
    recipe = full_book_recipe()
    assert recipe.model.n_cells * recipe.model.history_length == 100_000
    assert not recipe.train.activation_checkpointing  # one window takes 2 GiB as it is


@pytest.mark.parametrize("name", BOOK_RECIPES)
@pytest.mark.parametrize("layout", VARIANTS)
def test_every_snapshot_of_a_window_teaches_and_none_sees_what_comes_later(name, layout):
    config = BOOK_RECIPES[name]().variant(layout)
    assert (config.span, config.supervision) == ("causal", "dense")


def test_both_grids_have_a_recipe_of_one_size_beside_each_of_the_price_model():
    beside = {"demo": "demo", "seed": "full", "full": "full", "low-latency": "full"}
    assert set(beside) == set(RECIPES)
    assert {name: get_book_recipe(name).name for name in RECIPES} == beside
    assert {name: get_portfolio_recipe(name).name for name in RECIPES} == beside
    assert set(BOOK_RECIPES) == set(PORTFOLIO_RECIPES) == set(beside.values())
    auto = get_recipe("auto").name
    assert get_book_recipe("auto").name == get_portfolio_recipe("auto").name == beside[auto]
    for get in (get_book_recipe, get_portfolio_recipe):  # a slip of the pen is no `full`
        with pytest.raises(UnknownRecipe, match="'dmeo' is unknown"):
            get("dmeo")


def test_an_axial_variant_sees_both_axes_as_often():
    config = demo_book_recipe().variant("axial")
    assert config.axes.count("time") == config.axes.count("cells")


def test_the_fingerprint_follows_recipe_and_books():
    recipe = demo_book_recipe()
    assert recipe.fingerprint("a") == demo_book_recipe().fingerprint("a")
    assert recipe.fingerprint("a") != recipe.fingerprint("b")
    assert recipe.fingerprint("a") != full_book_recipe().fingerprint("a")
    assert json.loads(json.dumps(recipe.to_dict())) == recipe.to_dict()


def test_the_fingerprint_follows_the_code_of_the_books(tmp_path):
    books = tmp_path / "order_book"
    books.mkdir()
    (books / "labels.py").write_text("DOWN = 0\n")
    before = code_hash(tmp_path, CODE)
    code_hash.cache_clear()
    (books / "labels.py").write_text("DOWN = 1\n")
    assert code_hash(tmp_path, CODE) != before
    assert code_hash(parts=CODE) != code_hash()


@pytest.mark.parametrize(
    "change", [{"hours": 0}, {"stride": 0}, {"horizons": (1, 2)}, {"flat": 1.0}]
)
def test_values_out_of_their_range_are_refused(change):
    import dataclasses

    with pytest.raises(InvalidConfig):
        dataclasses.replace(demo_book_recipe(), **change)
