"""The price model for calls of one window. What needs a compiler or onnxruntime is marked slow.

Shape letters: T bars, I inputs per bar, S symbols.
"""

import importlib.util

import numpy as np
import pytest
import torch

from flash_pipeline.errors import InvalidConfig, InvalidInput
from flash_pipeline.model import export
from flash_pipeline.model.export import LastBar
from flash_pipeline.training.recipes import low_latency_recipe

ROTARY = {"positions": "rotary", "dropout": 0.0}
FORMS = {
    "full, learned": {"dropout": 0.0},
    "full, rotary": ROTARY,
    "causal": {"span": "causal", **ROTARY},
    "a window as wide": {"span": "sliding", "window": 20, **ROTARY},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("head", ["regression", "direction", "allocation", "quantile"])
def test_the_last_bar_alone_gives_the_prediction_of_the_window(make_model, bars, form, head):
    model = make_model(head=head, **FORMS[form])
    x_1TI = bars(1, 20)
    torch.testing.assert_close(LastBar(model, 20)(x_1TI), model.predict(x_1TI))


def test_a_window_narrower_than_the_input_is_refused(make_model):
    model = make_model(span="sliding", window=5, **ROTARY)
    with pytest.raises(InvalidConfig, match="the model sees 5 bars of 20"):
        LastBar(model, 20)


def test_more_bars_than_positions_are_refused(make_model):
    with pytest.raises(InvalidInput, match="input has 151 bars"):
        LastBar(make_model(), 151)


def test_the_recipe_is_the_chapters():
    recipe = low_latency_recipe()
    model = recipe.model
    assert (model.d_model, model.n_heads, model.n_layers) == (128, 4, 3)
    assert recipe.data.lookback == model.max_seq_len == 512


@pytest.mark.slow
def test_what_is_compiled_ahead_of_time_gives_the_same(make_model, bars, tmp_path):
    model, x_1TI = make_model(**FORMS["causal"]), bars(1, 20)
    package = export.export_package(model, 20, tmp_path / "model.pt2")
    torch.testing.assert_close(package(x_1TI), model.predict(x_1TI))


@pytest.mark.slow
@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="the extra `latency` is not installed",
)
@pytest.mark.parametrize("form", list(FORMS)[:3])
def test_onnx_gives_the_same(make_model, bars, tmp_path, form):
    model, x_1TI = make_model(**FORMS[form]), bars(1, 20)
    export.export_onnx(model, 20, tmp_path / "model.onnx")
    found = export.load_onnx(tmp_path / "model.onnx", 1)(x_1TI.numpy())
    np.testing.assert_allclose(found, model.predict(x_1TI).numpy(), rtol=1e-4, atol=1e-6)
