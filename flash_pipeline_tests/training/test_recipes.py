import dataclasses
import json
import subprocess
import sys

import pytest
import torch

from flash_pipeline.errors import InvalidConfig, InvalidInterval, InvalidSymbol, UnknownRecipe
from flash_pipeline.model.config import HeadOptions
from flash_pipeline.settings import RECIPE_CHOICES
from flash_pipeline.training.recipes import (
    RECIPES,
    DataConfig,
    Recipe,
    TrainConfig,
    demo_recipe,
    full_recipe,
    get_recipe,
    seed_recipe,
)
from flash_pipeline.windows import SplitConfig


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_carries_the_name_it_is_known_by(name):
    assert get_recipe(name).name == name


def test_an_unknown_recipe_is_refused_with_the_choices():
    with pytest.raises(UnknownRecipe, match=r"'huge' is unknown: expected auto, demo, seed, full"):
        get_recipe("huge")


@pytest.mark.parametrize(("cuda", "expected"), [(True, "full"), (False, "demo")])
def test_auto_is_full_with_a_gpu_and_demo_without(monkeypatch, cuda, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert get_recipe("auto") == get_recipe(expected)


def test_the_settings_offer_these_recipes():
    assert set(RECIPE_CHOICES) == {"auto", *RECIPES}


def test_the_seed_recipe_has_the_chapters_numbers():
    recipe = seed_recipe()
    model, data = recipe.model, recipe.data
    assert (model.n_layers, model.n_heads, model.d_model, model.d_ff) == (6, 8, 256, 1024)
    assert (data.lookback, data.horizon, data.interval, len(data.symbols)) == (2048, 24, "60", 5)
    assert recipe.train.epochs == 50


def test_the_full_recipe_is_the_chapters_size_taught_at_every_bar():
    full, chapter = full_recipe(), seed_recipe()
    for name in ("d_model", "d_ff", "n_layers", "head"):
        assert getattr(full.model, name) == getattr(chapter.model, name)
    assert full.model.head_size in (64, 128)
    assert full.model.streams
    assert full.model.supervision == "dense"
    assert full.model.reach == 2047
    assert full.model.dropout == 0
    assert full.train.ema_decay is not None
    assert full.data == chapter.data


def test_a_streaming_model_that_reaches_beyond_the_lookback_is_refused_with_the_numbers():
    message = (
        "recipe 'full': 6 layers of window 343 reach 2053 bars back, beyond the lookback of 2048: "
        "expected a window of at most 342"
    )
    with pytest.raises(InvalidConfig, match=message):
        full_recipe().with_model(window=343)


@pytest.mark.parametrize("lookback", [1, 6, 7, 100, 2048, 4096])
def test_a_shorter_lookback_narrows_a_streaming_models_window(lookback):
    model = full_recipe().with_data(lookback=lookback).model
    assert model.reach <= lookback
    assert model.window == 342 if lookback >= 2048 else model.reach > lookback - 6


def test_a_full_span_knows_no_reach():
    assert demo_recipe().model.reach is None


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_describes_itself_in_json(name):
    values = json.loads(json.dumps(get_recipe(name).to_dict()))
    assert values["name"] == name
    assert set(values) == {"name", "data", "model", "train", "split"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_layers": -4}, "n_layers is -4: expected an integer of at least 1"),
        ({"head": "oracle"}, "head is 'oracle': expected one of regression direction allocation"),
    ],
)
def test_a_model_out_of_its_bounds_is_refused_by_value(change, message):
    with pytest.raises(InvalidConfig, match=message):
        demo_recipe().with_model(**change)


def test_with_model_changes_the_model_alone():
    demo = demo_recipe()
    changed = demo.with_model(n_layers=3)
    assert changed.model.n_layers == 3
    assert dataclasses.replace(changed, model=demo.model) == demo


def test_with_data_fits_the_model_to_the_data():
    recipe = demo_recipe().with_data(symbols=("BTCUSDT", "ETHUSDT"), lookback=64)
    assert recipe.data.lookback == recipe.model.max_seq_len == 64
    assert recipe.model.n_symbols == 2
    assert recipe.model.d_model == demo_recipe().model.d_model
    assert recipe.train == demo_recipe().train


def test_a_model_of_another_number_of_symbols_is_refused():
    demo = demo_recipe()
    with pytest.raises(InvalidConfig, match=r"'demo': the model has 5 symbols, the data 1"):
        dataclasses.replace(demo, data=dataclasses.replace(demo.data, symbols=("BTCUSDT",)))


def test_a_lookback_beyond_the_models_positions_is_refused():
    demo = demo_recipe()
    with pytest.raises(InvalidConfig, match=r"lookback is 129, beyond the model's 128 positions"):
        dataclasses.replace(demo, data=dataclasses.replace(demo.data, lookback=129))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"lookback": 0}, InvalidConfig, "lookback is 0: expected an integer of at least 1"),
        ({"horizon": True}, InvalidConfig, "horizon is True"),
        ({"months": 1.5}, InvalidConfig, r"months is 1\.5"),
        ({"interval": "7"}, InvalidInterval, "'7'"),
        ({"symbols": ("btc",)}, InvalidSymbol, "'btc'"),
        ({"symbols": ()}, InvalidSymbol, "no symbol given"),
    ],
)
def test_data_out_of_their_bounds_are_refused_by_value(change, error, message):
    with pytest.raises(error, match=message):
        DataConfig(**change)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("warm_epochs", 0),
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("windows_per_epoch", 0),
        ("seed", -1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("clip_norm", -1.0),
        ("weight_decay", -0.1),
        ("accumulation", 0),
        ("seeds", 0),
        ("accumulation", 3),
        ("ema_decay", 0.0),
        ("ema_decay", 1.0),
        ("ema_decay", float("nan")),
        ("activation_checkpointing", 1),
        ("deterministic", "yes"),
        ("compile", "always"),
        ("compile", 1),
        ("checkpoint_minutes", -0.1),
        ("checkpoint_minutes", float("nan")),
    ],
)
def test_a_training_out_of_its_bounds_is_refused_by_value(name, value):
    values = {"epochs": 1, "warm_epochs": 1, "batch_size": 4, name: value}
    with pytest.raises(InvalidConfig, match=f"{name} is {value!r}"):
        TrainConfig(**values)


def test_an_allocation_head_is_not_taught_by_micro_batches():
    recipe = demo_recipe().with_model(head="allocation")
    with pytest.raises(InvalidConfig, match="accumulation is 2 with head 'allocation': expected 1"):
        recipe.with_training(accumulation=2)


@pytest.mark.parametrize("value", ["auto", True, False])
def test_steps_may_be_compiled_always_never_or_where_it_pays(value):
    assert TrainConfig(epochs=1, warm_epochs=1, batch_size=4, compile=value).compile is value


def test_the_fingerprint_changes_with_the_code(monkeypatch):
    before = demo_recipe().fingerprint("abc")
    monkeypatch.setattr("flash_pipeline.training.recipes.code_hash", lambda: "other code")
    assert demo_recipe().fingerprint("abc") != before


def test_equal_recipes_on_equal_data_have_equal_fingerprints():
    assert demo_recipe().fingerprint("abc") == demo_recipe().fingerprint("abc")


def test_the_fingerprint_changes_with_the_snapshot():
    assert demo_recipe().fingerprint("abc") != demo_recipe().fingerprint("abd")


CHANGES = {
    "name": "demonstration",
    "data.symbols": ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "BNBUSDT"),
    "data.interval": "30",
    "data.lookback": 64,
    "data.horizon": 12,
    "data.months": 11,
    "model.d_model": 64,
    "model.n_heads": 1,
    "model.n_layers": 1,
    "model.d_ff": 32,
    "model.n_features": 6,
    "model.max_seq_len": 256,
    "model.head": "direction",
    "model.head_options": HeadOptions(turnover_cost=0.0),
    "model.span": "causal",
    "model.positions": "rotary",
    "model.dropout": 0.2,
    "model.attention": "sdpa",
    "train.epochs": 9,
    "train.warm_epochs": 4,
    "train.batch_size": 32,
    "train.learning_rate": 2e-3,
    "train.weight_decay": 0.0,
    "train.clip_norm": 2.0,
    "train.windows_per_epoch": None,
    "train.accumulation": 2,
    "train.ema_decay": 0.9,
    "train.activation_checkpointing": True,
    "train.compile": False,
    "train.deterministic": True,
    "train.checkpoint_minutes": 1.0,
    "train.feature_scaling": "robust",
    "train.target_scaling": "volatility",
    "train.seed": 59,
    "train.seeds": 2,
    "split.train": 0.6,
    "split.validation": 0.2,
    "split.embargo": 1,
}


def test_the_fingerprint_changes_with_the_window_and_with_the_supervision():
    causal = demo_recipe().with_model(span="causal", positions="rotary")
    sliding = [causal.with_model(span="sliding", window=window) for window in (8, 9)]
    dense = causal.with_model(supervision="dense")
    assert len({recipe.fingerprint("abc") for recipe in (causal, dense, *sliding)}) == 4


@pytest.mark.parametrize("field", CHANGES)
def test_the_fingerprint_changes_with_any_field(field):
    demo = demo_recipe()
    part, _, name = field.rpartition(".")
    if part:
        changed = dataclasses.replace(
            demo, **{part: dataclasses.replace(getattr(demo, part), **{name: CHANGES[field]})}
        )
    else:
        changed = dataclasses.replace(demo, **{name: CHANGES[field]})
    assert changed.fingerprint("abc") != demo.fingerprint("abc")


def test_every_field_is_among_those_tried():
    demo = demo_recipe()
    fields = {
        f"{part}.{field.name}"
        for part in ("data", "model", "train", "split")
        for field in dataclasses.fields(getattr(demo, part))
    }
    not_alone = {"model.n_symbols", "model.window", "model.supervision"}
    assert fields - not_alone == set(CHANGES) - {"name"}
    assert isinstance(demo.split, SplitConfig)


def test_recipes_are_read_without_torch_and_mlflow():
    code = (
        "import sys; from flash_pipeline.training.recipes import get_recipe; "
        "get_recipe('demo').fingerprint('abc'); "
        "print(sorted({'torch', 'mlflow', 'dagster'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_comes_back_from_json(name):
    recipe = get_recipe(name).with_model(head="quantile")
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    assert again.fingerprint("abc") == recipe.fingerprint("abc")


@pytest.mark.parametrize(
    "change", [{"train": {"epochs": 1, "tricks": 2}}, {"data": {}}, {"split": {"train": 2.0}}]
)
def test_values_of_no_recipe_are_refused(change):
    with pytest.raises(InvalidConfig):
        Recipe.from_dict({**demo_recipe().to_dict(), **change})
