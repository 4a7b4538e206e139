"""What a model is built from. Free of torch, so that recipes can be read without it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from flash_pipeline.errors import InvalidConfig

HeadName = Literal["regression", "direction", "allocation"]
"""What the model predicts for each symbol."""

AttentionName = Literal["auto", "flash_attn", "sdpa", "reference"]
"""Attention backends that can be asked for."""

MAX_HEAD_SIZE = 256
"""Largest head size that the flash kernels take."""

_COUNTS = ("n_symbols", "n_features", "d_model", "n_heads", "n_layers", "d_ff", "max_seq_len")


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of a `FlashAttentionTrader`, checked when it is made.

    Raises
    ------
    InvalidConfig
        Naming the field, its value and what was expected.

    Examples
    --------
    >>> config = ModelConfig(n_symbols=5, n_features=6)
    >>> config.input_dim, config.n_outputs, config.head_size
    (30, 5, 32)
    """

    n_symbols: int
    """Symbols, at least 1; also the number of outputs."""
    n_features: int
    """Inputs per symbol and bar, at least 1."""
    d_model: int = 256
    """Width of the residual stream, at least 1, a multiple of `n_heads`."""
    n_heads: int = 8
    """Attention heads per layer, at least 1."""
    n_layers: int = 6
    """Transformer blocks, at least 1."""
    d_ff: int = 1024
    """Width of the hidden layer of each block's MLP, at least 1."""
    max_seq_len: int = 2048
    """Longest input, in bars, at least 1."""
    head: HeadName = "regression"
    """`regression` (forward return), `direction` (probability of a rise) or `allocation`
    (weights in [-1, 1])."""
    dropout: float = 0.1
    """Probability of dropping an attention weight or an activation in training, in [0, 1)."""
    attention: AttentionName = "auto"
    """Attention backend; `auto` picks by device and dtype, and says why."""

    def __post_init__(self) -> None:
        for name in _COUNTS:
            _check_count(name, getattr(self, name))
        _check_choice("head", self.head, get_args(HeadName))
        _check_choice("attention", self.attention, get_args(AttentionName))
        _check_dropout(self.dropout)
        _check_head_size(self.d_model, self.n_heads)

    @property
    def input_dim(self) -> int:
        """Inputs per bar, all symbols together."""
        return self.n_symbols * self.n_features

    @property
    def n_outputs(self) -> int:
        """Outputs per window: one for each symbol."""
        return self.n_symbols

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, fit for JSON; `from_dict` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """Return the configuration that `to_dict` wrote.

        Parameters
        ----------
        values : mapping
            One value for every field, those with a default included: a stored model must not
            change its meaning when a default does.

        Raises
        ------
        InvalidConfig
            If a key is unknown or missing, or a value out of its range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown, missing = sorted(set(values) - known), sorted(known - set(values))
        if unknown:
            raise InvalidConfig(
                f"model config has unknown keys {unknown}: expected {sorted(known)}"
            )
        if missing:
            raise InvalidConfig(f"model config lacks the keys {missing}")
        return cls(**values)


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidConfig(f"{name} is {value!r}: expected an integer of at least 1")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidConfig(f"{name} is {value!r}: expected one of {' '.join(choices)}")


def _check_dropout(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise InvalidConfig(f"dropout is {value!r}: expected a number of at least 0 and below 1")


def _check_head_size(d_model: int, n_heads: int) -> None:
    if d_model % n_heads:
        raise InvalidConfig(f"d_model is {d_model}: expected a multiple of n_heads, {n_heads}")
    if d_model // n_heads > MAX_HEAD_SIZE:
        raise InvalidConfig(
            f"d_model is {d_model} with {n_heads} heads, a head size of {d_model // n_heads}: "
            f"expected at most {MAX_HEAD_SIZE}"
        )
