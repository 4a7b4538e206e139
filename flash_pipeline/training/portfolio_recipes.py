"""Recipes of the whole market's model: sizes by name. Free of torch, like `recipes`."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flash_pipeline import __version__
from flash_pipeline.errors import InvalidConfig
from flash_pipeline.model.config import HeadOptions
from flash_pipeline.model.grid_config import LayoutName, PortfolioConfig
from flash_pipeline.portfolio import FEATURES, UniverseConfig, WalkConfig
from flash_pipeline.training.recipes import size_beside
from flash_pipeline.training.sources import code_hash

VARIANTS: tuple[LayoutName, ...] = ("joint", "axial")
"""How the tokens attend; both have the same weights and the same budget."""

TURNOVER_COST = 0.00075
"""What the training charges for a unit of turnover: the backtest's taker fee and slippage."""


@dataclass(frozen=True)
class PortfolioTraining:
    """How a portfolio model is trained; the budget of each variant is the same number of steps.

    Raises
    ------
    InvalidConfig
        If a number is out of its bounds.
    """

    steps: int
    """Steps of each training, at least 1, on the same windows in the same order."""
    batch_size: int
    """Windows in a step, at least 1."""
    validate_every: int
    """Steps between two looks at the validation range, at least 1; the best weights are kept."""
    learning_rate: float = 1e-3
    """Peak of the cosine schedule, above 0."""
    weight_decay: float = 0.01
    """AdamW's, 0 or more."""
    clip_norm: float = 1.0
    """Largest gradient norm, above 0."""
    seed: int = 58
    """Of weights and the order of windows, 0 or more."""
    seeds: int = 1
    """Trainings of each fold and variant, at least 1, each from the next seed; the best by its
    validation is kept, and the report shows how far they are apart."""
    least_hours: int = 168
    """Hours of an asset's tokens in the training range, at least 1, below which it is absent for
    the model, in training and after: its embedding would be noise."""
    checkpoint_minutes: float = 5.0
    """Time between the checkpoints that a killed training resumes from, 0 or more: at most so much
    work is lost. 0 writes one after every look at the validation range."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "validate_every", "seeds", "least_hours"):
            if getattr(self, name) < 1:
                raise InvalidConfig(f"{name} is {getattr(self, name)}: expected at least 1")
        for name in ("learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise InvalidConfig(f"{name} is {getattr(self, name)}: expected a number above 0")
        if not self.checkpoint_minutes >= 0:
            raise InvalidConfig(
                f"checkpoint_minutes is {self.checkpoint_minutes}: expected 0 or more"
            )
        if self.weight_decay < 0 or self.seed < 0:
            raise InvalidConfig(
                f"weight_decay is {self.weight_decay}, seed {self.seed}: expected 0 or more"
            )


@dataclass(frozen=True)
class PortfolioRecipe:
    """Everything that decides what a training gives, but the candles themselves."""

    name: str
    """Name it is known by."""
    instruments: int
    """Instruments that the embedded exchange lists, 16 to 600."""
    months: int
    """Calendar months of the panel, the newest included, at least 1."""
    universe: UniverseConfig
    """Who belongs to the market when."""
    model: PortfolioConfig
    """Architecture; its number of assets and its layout are those of the panel and the variant."""
    train: PortfolioTraining
    """Optimisation."""
    walk: WalkConfig = field(default_factory=WalkConfig)
    """Ranges by time."""
    horizon: int = 24
    """Hours that a decision is held before the next one, at least 1."""
    warmup: int = 1
    """Months of candles before the panel, for the first election, 0 or more."""

    def __post_init__(self) -> None:
        for name in ("months", "horizon"):
            if getattr(self, name) < 1:
                raise InvalidConfig(f"{name} is {getattr(self, name)}: expected at least 1")

    def config(self, n_assets: int, layout: LayoutName) -> PortfolioConfig:
        """Return the architecture of a variant for so many assets."""
        return dataclasses.replace(self.model, n_assets=n_assets, layout=layout)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, fit for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    def fingerprint(self, snapshot: str) -> str:
        """Name a training: equal recipes on an equal panel, by the same code."""
        code = [__version__, code_hash(), _panel_code()]
        text = json.dumps([self.to_dict(), snapshot, *code], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def demo_portfolio() -> PortfolioRecipe:
    """Return what two CPU cores do in under two minutes: 12 assets x 96 hours, 2 narrow layers."""
    return PortfolioRecipe(
        name="demo",
        instruments=100,
        months=4,
        universe=UniverseConfig(n_assets=12),
        model=_model(96, d_model=32, n_heads=1, n_layers=2, d_ff=64, asset_cap=0.25),
        train=PortfolioTraining(steps=60, batch_size=8, validate_every=15, learning_rate=3e-3),
    )


def full_portfolio() -> PortfolioRecipe:
    """Return the whole market: 100 assets x 2,048 hours, 4 layers of 2 heads of 64."""
    return PortfolioRecipe(
        name="full",
        instruments=130,
        months=24,
        universe=UniverseConfig(n_assets=100),
        model=_model(2048, d_model=128, n_heads=2, n_layers=4, d_ff=512, asset_cap=0.1),
        train=PortfolioTraining(
            steps=300, batch_size=2, validate_every=30, learning_rate=5e-4, least_hours=720
        ),
    )


PORTFOLIO_RECIPES: dict[str, Callable[[], PortfolioRecipe]] = {
    "demo": demo_portfolio,
    "full": full_portfolio,
}
"""Recipes by name."""


def get_portfolio_recipe(name: str) -> PortfolioRecipe:
    """Return the recipe that goes with one of the price model: see `size_beside`."""
    return PORTFOLIO_RECIPES[size_beside(name)]()


@functools.cache
def _panel_code() -> str:
    """Return a hash of the code of panels and ranges, beside that of `code_hash`."""
    folder = Path(__file__).resolve().parents[1] / "portfolio"
    return hashlib.sha256(b"".join(p.read_bytes() for p in sorted(folder.glob("*.py")))).hexdigest()


def _model(lookback: int, **sizes: Any) -> PortfolioConfig:  # noqa: ANN401  (PortfolioConfig's)
    return PortfolioConfig(
        100,
        lookback,
        n_features=len(FEATURES),
        span="causal",
        supervision="dense",
        head_options=HeadOptions(objective="sharpe", turnover_cost=TURNOVER_COST),
        **sizes,
    )
