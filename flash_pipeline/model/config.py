"""What a model is built from. Free of torch, so that recipes can be read without it."""

import dataclasses
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from flash_pipeline.errors import InvalidConfig

HeadName = Literal["regression", "direction", "allocation", "quantile"]
"""What the model predicts for each symbol."""

AttentionName = Literal[
    "auto",
    "flash_attn",
    "flash_attn_4",
    "sdpa",
    "sdpa_cudnn",
    "sdpa_flash",
    "sdpa_efficient",
    "flex",
    "tiled",
    "reference",
]
"""Attention backends that can be asked for."""

SpanName = Literal["full", "causal", "sliding"]
"""Which bars a bar attends to."""

SupervisionName = Literal["last", "dense"]
"""Which bars of a window have a target."""

PositionName = Literal["learned", "rotary"]
"""How the model knows the order of bars."""

ObjectiveName = Literal["sharpe", "mean_variance"]
"""What the allocation head maximises."""

MAX_HEAD_SIZE = 256
"""Largest head size that the flash kernels take."""

_COUNTS = ("n_symbols", "n_features", "d_model", "n_heads", "n_layers", "d_ff", "max_seq_len")


@dataclass(frozen=True)
class HeadOptions:
    """What some heads need beyond their name; the others ignore it.

    Raises
    ------
    InvalidConfig
        Naming the field, its value and what was expected.
    """

    quantiles: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)
    """Head `quantile`: levels predicted, ascending, between 0 and 1, the median among them."""
    objective: ObjectiveName = "sharpe"
    """Head `allocation`: what is maximised, net of costs."""
    risk_aversion: float = 1.0
    """Head `allocation`, objective `mean_variance`: weight of half the variance, 0 or more."""
    turnover_cost: float = 0.00065
    """Head `allocation`: cost of a unit of turnover, as a fraction; 0 or more."""
    gross_cap: float = 1.0
    """Head `allocation`: largest sum of the weights' sizes, above 0."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "quantiles", tuple(self.quantiles))  # a list where JSON was read
        levels = self.quantiles
        ascending = all(a < b for a, b in itertools.pairwise(levels))
        if not (ascending and 0.5 in levels and levels[0] > 0 and levels[-1] < 1):
            raise InvalidConfig(
                f"quantiles is {levels!r}: expected ascending levels between 0 and 1 with 0.5"
            )
        check_choice("objective", self.objective, get_args(ObjectiveName))
        for name in ("risk_aversion", "turnover_cost"):
            if not getattr(self, name) >= 0:
                raise InvalidConfig(f"{name} is {getattr(self, name)!r}: expected 0 or more")
        if not self.gross_cap > 0:
            raise InvalidConfig(f"gross_cap is {self.gross_cap!r}: expected a number above 0")


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
    """`regression` (forward return), `direction` (probability of a rise), `allocation` (weights
    in [-1, 1]) or `quantile` (quantiles of the forward return)."""
    head_options: HeadOptions = field(default_factory=HeadOptions)
    """Options of the head."""
    span: SpanName = "full"
    """`full`: a bar attends to every bar of its window; `causal`: to itself and earlier ones;
    `sliding`: to itself and the `window - 1` bars before it. Only with the latter two does an
    output say nothing about later bars."""
    window: int | None = None
    """Bars that a layer sees under `sliding`, at least 1; None otherwise."""
    supervision: SupervisionName = "last"
    """`last`: one target per window, at its last bar; `dense`: one at every bar, which needs a
    causal or sliding span (or the loss would show the model the future) and rotary positions."""
    positions: PositionName = "learned"
    """`learned`: one vector per bar, counted from the window's end; `rotary`: rotations of
    queries and keys, which know distances between bars alone (Su et al. 2021, RoFormer)."""
    dropout: float = 0.1
    """Probability of dropping an attention weight or an activation in training, in [0, 1)."""
    attention: AttentionName = "auto"
    """Attention backend; `auto` picks by device and dtype, and says why."""

    def __post_init__(self) -> None:
        for name in _COUNTS:
            check_count(name, getattr(self, name))
        check_choice("head", self.head, get_args(HeadName))
        check_choice("attention", self.attention, get_args(AttentionName))
        check_choice("span", self.span, get_args(SpanName))
        check_choice("supervision", self.supervision, get_args(SupervisionName))
        check_choice("positions", self.positions, get_args(PositionName))
        if isinstance(self.head_options, Mapping):
            object.__setattr__(self, "head_options", HeadOptions(**self.head_options))
        check_dropout(self.dropout)
        check_head_size(self.d_model, self.n_heads)
        self._check_order()

    def _check_order(self) -> None:
        """Check what span, supervision and positions ask of one another."""
        if (self.span == "sliding") != (self.window is not None):
            raise InvalidConfig(
                f"window is {self.window!r} under span {self.span!r}: "
                "expected a number of bars under 'sliding' and None otherwise"
            )
        if self.window is not None:
            check_count("window", self.window)
        if self.supervision == "dense" and (self.span == "full" or self.positions == "learned"):
            raise InvalidConfig(
                f"supervision is 'dense' with span {self.span!r} and {self.positions} positions: "
                "expected a causal or sliding span and rotary positions"
            )
        if self.positions == "rotary" and self.head_size % 2:
            raise InvalidConfig(
                f"the head size is {self.head_size}: rotary positions expect an even number"
            )

    @property
    def input_dim(self) -> int:
        """Inputs per bar, all symbols together."""
        return self.n_symbols * self.n_features

    @property
    def n_outputs(self) -> int:
        """Symbols predicted."""
        return self.n_symbols

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads

    @property
    def reach(self) -> int | None:
        """Bars, itself included, that an output can depend on; None where all of the input."""
        return None if self.window is None else self.n_layers * (self.window - 1) + 1

    @property
    def streams(self) -> bool:
        """Whether one pass over a long series gives the prediction of every bar's own window."""
        return self.span == "sliding" and self.positions == "rotary"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, fit for JSON; `from_dict` is the inverse."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

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
        known = {each.name for each in dataclasses.fields(cls)}
        unknown, missing = sorted(set(values) - known), sorted(known - set(values))
        if unknown:
            raise InvalidConfig(
                f"model config has unknown keys {unknown}: expected {sorted(known)}"
            )
        if missing:
            raise InvalidConfig(f"model config lacks the keys {missing}")
        return cls(**values)


def check_count(name: str, value: object) -> None:
    """Raise InvalidConfig unless a field is an integer of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidConfig(f"{name} is {value!r}: expected an integer of at least 1")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise InvalidConfig unless a field is one of the choices."""
    if value not in choices:
        raise InvalidConfig(f"{name} is {value!r}: expected one of {' '.join(choices)}")


def check_dropout(value: object) -> None:
    """Raise InvalidConfig unless a probability of dropping is in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise InvalidConfig(f"dropout is {value!r}: expected a number of at least 0 and below 1")


def check_head_size(d_model: int, n_heads: int) -> None:
    """Raise InvalidConfig unless heads divide the width into sizes that the kernels take."""
    if d_model % n_heads:
        raise InvalidConfig(f"d_model is {d_model}: expected a multiple of n_heads, {n_heads}")
    if d_model // n_heads > MAX_HEAD_SIZE:
        raise InvalidConfig(
            f"d_model is {d_model} with {n_heads} heads, a head size of {d_model // n_heads}: "
            f"expected at most {MAX_HEAD_SIZE}"
        )
