import json
import subprocess
import sys

import pytest

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.model import ModelConfig


def test_the_defaults_are_those_of_the_chapter():
    config = ModelConfig(n_symbols=5, n_features=6)
    assert (config.d_model, config.n_heads, config.n_layers, config.d_ff) == (256, 8, 6, 1024)
    assert (config.max_seq_len, config.head, config.dropout) == (2048, "regression", 0.1)


def test_sizes_follow_from_the_fields(tiny):
    config = tiny()
    assert (config.input_dim, config.n_outputs, config.head_size) == (6, 2, 8)


def test_a_config_survives_json(tiny):
    config = tiny(head="direction", dropout=0.25, attention="sdpa")
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_layers", -4),
        ("n_layers", 0),
        ("n_symbols", 0),
        ("n_features", 1.0),
        ("d_ff", True),
        ("max_seq_len", "2048"),
        ("max_seq_len", None),
        ("head", "classification"),
        ("head", ["regression"]),
        ("attention", "triton"),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("dropout", float("nan")),
        ("dropout", False),
        ("dropout", "0.1"),
        ("d_model", 15),
    ],
)
def test_a_bad_value_is_refused_with_its_field_value_and_expectation(tiny, field, value):
    with pytest.raises(InvalidConfig) as refusal:
        tiny(**{field: value})
    message = str(refusal.value)
    assert message.startswith(f"{field} is {value!r}")
    assert "expected" in message


def test_a_head_size_above_the_kernels_limit_is_refused(tiny):
    assert tiny(d_model=512, n_heads=2).head_size == 256
    with pytest.raises(InvalidConfig, match=r"head size of 257: expected at most 256"):
        tiny(d_model=514, n_heads=2)


def test_an_unknown_key_is_refused_by_name(tiny):
    with pytest.raises(InvalidConfig, match=r"unknown keys \['use_flash'\]"):
        ModelConfig.from_dict({**tiny().to_dict(), "use_flash": True})


def test_a_missing_key_is_refused_by_name_even_if_it_has_a_default(tiny):
    values = tiny().to_dict()
    del values["dropout"]
    with pytest.raises(InvalidConfig, match=r"lacks the keys \['dropout'\]"):
        ModelConfig.from_dict(values)


def test_the_config_is_imported_without_torch_and_the_model_without_the_pipeline():
    code = (
        "import sys, flash_pipeline.model\n"
        "assert 'torch' not in sys.modules\n"
        "import flash_pipeline.model.trader, flash_pipeline.model.analysis\n"
        "unwanted = {'dagster', 'mlflow', 'duckdb', 'pandas', 'pyarrow', 'flash_attn'}\n"
        "assert not unwanted & set(sys.modules), unwanted & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
