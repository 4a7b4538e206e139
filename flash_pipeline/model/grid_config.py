"""Configurations of the models that read a grid of tokens: moments times cells.

A cell is what every moment has many of: a level of one side of an order book, or an asset.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, get_args

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.model.config import (
    AttentionName,
    HeadOptions,
    SupervisionName,
    check_choice,
    check_count,
    check_dropout,
    check_head_size,
)

LayoutName = Literal["joint", "axial"]
"""`joint`: every token attends to all tokens that the span allows. `axial`: layers take
turns, one along the cells of a moment, one along the moments of a cell (Ho et al. 2019, "Axial
Attention"): the same weights and far fewer pairs."""

AxisName = Literal["joint", "cells", "time"]
"""Along what a layer attends."""

SIDES = 2
"""Sides of a book: bids, asks."""


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """What both models share.

    Raises
    ------
    InvalidConfig
        Naming the field, its value and what was expected.
    """

    _turns: ClassVar[tuple[AxisName, AxisName]] = ("cells", "time")

    n_features: int = 3
    """Inputs of a token, at least 1."""
    d_model: int = 128
    """Width of the residual stream, at least 1, a multiple of `n_heads`."""
    n_heads: int = 8
    """Attention heads per layer, at least 1; their size is even. On a GPU 1 or 2 heads of 64 or
    more are several times as fast as 8 of 16."""
    n_layers: int = 4
    """Transformer blocks, at least 1."""
    d_ff: int = 512
    """Width of the hidden layer of each block's MLP, at least 1."""
    layout: LayoutName = "joint"
    """`joint` or `axial`."""
    span: Literal["full", "causal"] = "full"
    """`full`: a token attends to the whole window. `causal`: to nothing later. Where the layout is
    joint, tokens are ordered by moment and then by cell, so that of its own moment a token sees the
    cells before it."""
    supervision: SupervisionName = "last"
    """`last`: one target per window, at its last moment; `dense`: one at every moment, which needs
    the span `causal`, or the loss would show the model the future."""
    dropout: float = 0.0
    """Probability of dropping an attention weight or an activation in training, in [0, 1)."""
    attention: AttentionName = "auto"
    """Attention backend."""

    def __post_init__(self) -> None:
        for name in ("n_features", "d_model", "n_heads", "n_layers", "d_ff"):
            check_count(name, getattr(self, name))
        check_choice("layout", self.layout, get_args(LayoutName))
        check_choice("span", self.span, ("full", "causal"))
        check_choice("supervision", self.supervision, get_args(SupervisionName))
        check_choice("attention", self.attention, get_args(AttentionName))
        check_dropout(self.dropout)
        check_head_size(self.d_model, self.n_heads)
        if self.head_size % 2:
            raise InvalidConfig(
                f"the head size is {self.head_size}: rotary positions expect an even number"
            )
        if self.supervision == "dense" and self.span == "full":
            raise InvalidConfig(
                "supervision is 'dense' with span 'full': expected span 'causal', since the loss "
                "would show the model the future"
            )

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads

    @property
    def window(self) -> int | None:
        """None: no layer has a sliding window."""
        return None

    @property
    def axes(self) -> tuple[AxisName, ...]:
        """Along what each layer attends."""
        if self.layout == "joint":
            return tuple("joint" for _ in range(self.n_layers))
        return tuple(self._turns[i % 2] for i in range(self.n_layers))

    @property
    def n_cells(self) -> int:
        """Tokens of a moment."""
        raise NotImplementedError

    @property
    def max_moments(self) -> int:
        """Longest input, in moments."""
        raise NotImplementedError

    @property
    def head(self) -> str:
        """What is predicted."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, fit for JSON; `from_dict` is the inverse."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the configuration that `to_dict` wrote; every field must have a value.

        Raises
        ------
        InvalidConfig
            If a key is unknown or missing, or a value out of its range.
        """
        known = {each.name for each in dataclasses.fields(cls)}
        if known != set(values):
            raise InvalidConfig(
                f"{cls.__name__} has unknown keys {sorted(set(values) - known)} and lacks "
                f"{sorted(known - set(values))}"
            )
        return cls(**values)


@dataclass(frozen=True)
class OrderBookConfig(GridConfig):
    """Architecture of an `OrderBookModel`: one token per snapshot, level and side.

    Examples
    --------
    >>> config = OrderBookConfig()
    >>> config.n_cells * config.history_length
    100000
    """

    n_levels: int = 50
    """Levels of each side that it reads, at least 1."""
    history_length: int = 1000
    """Snapshots of a window, at least 1."""
    n_horizons: int = field(default=3, kw_only=True)
    """Horizons at which the mid price's direction is predicted, at least 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n_levels", "history_length", "n_horizons"):
            check_count(name, getattr(self, name))

    @property
    def n_cells(self) -> int:
        """Tokens of a snapshot."""
        return SIDES * self.n_levels

    @property
    def max_moments(self) -> int:
        """Longest input, in snapshots."""
        return self.history_length

    @property
    def head(self) -> str:
        """Down, flat or up."""
        return "movement"


@dataclass(frozen=True)
class PortfolioConfig(GridConfig):
    """Architecture of a `PortfolioModel`: one token per hour and asset.

    Examples
    --------
    >>> config = PortfolioConfig()
    >>> config.n_cells * config.lookback
    204800
    """

    _turns: ClassVar[tuple[AxisName, AxisName]] = ("time", "cells")

    n_assets: int = 100
    """Assets, at least 1; each has an embedding, so their order is that of the training."""
    lookback: int = 2048
    """Hours of a window, at least 1."""
    asset_cap: float = field(default=0.1, kw_only=True)
    """Largest size of one asset's weight, a fraction of the capital, above 0."""
    head_options: HeadOptions = field(default_factory=HeadOptions, kw_only=True)
    """Objective, risk aversion, cost of turnover and gross cap; what is not invested is cash."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n_assets", "lookback"):
            check_count(name, getattr(self, name))
        if isinstance(self.head_options, Mapping):
            object.__setattr__(self, "head_options", HeadOptions(**self.head_options))
        if not self.asset_cap > 0:
            raise InvalidConfig(f"asset_cap is {self.asset_cap!r}: expected a number above 0")

    @property
    def n_cells(self) -> int:
        """Tokens of an hour."""
        return self.n_assets

    @property
    def max_moments(self) -> int:
        """Longest input, in hours."""
        return self.lookback

    @property
    def head(self) -> str:
        """Weights of a portfolio."""
        return "allocation"


__all__ = [
    "SIDES",
    "AxisName",
    "GridConfig",
    "LayoutName",
    "OrderBookConfig",
    "PortfolioConfig",
]
