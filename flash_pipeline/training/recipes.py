"""Recipes: complete configurations by name. Free of torch, so that Dagster loads them quickly."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flash_pipeline import __version__
from flash_pipeline.errors import InvalidConfig, UnknownRecipe
from flash_pipeline.features import FEATURE_NAMES
from flash_pipeline.market import Interval, parse_symbols
from flash_pipeline.model.config import ModelConfig
from flash_pipeline.windows.split import SplitConfig

DEFAULT_SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT")
"""The chapter's five linear perpetuals."""


@dataclass(frozen=True)
class DataConfig:
    """Which candles become which windows."""

    symbols: tuple[str, ...] = DEFAULT_SYMBOLS
    """Linear perpetuals, in the order of the tensors' symbol axis."""
    interval: str = Interval.HOUR_1.value
    """Candle interval by the exchange's code."""
    lookback: int = 2048
    """Bars of a window, at least 1."""
    horizon: int = 24
    """Bars ahead that is predicted, at least 1."""
    months: int = 12
    """Calendar months of history, the current one included, at least 1."""

    def __post_init__(self) -> None:
        parse_symbols(self.symbols)
        Interval.parse(self.interval)
        _require_at_least(1, lookback=self.lookback, horizon=self.horizon, months=self.months)


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained."""

    epochs: int
    """Passes over the training windows from random weights, at least 1."""
    warm_epochs: int
    """Passes when the weights of the champion are the start, at least 1."""
    batch_size: int
    """Windows in a step, at least 1."""
    learning_rate: float = 1e-4
    """Peak of the cosine schedule, above 0."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay, 0 or more."""
    clip_norm: float = 1.0
    """Largest gradient norm, above 0."""
    windows_per_epoch: int | None = None
    """Training windows drawn for one pass, at least 1; None for all of them."""
    seed: int = 58
    """Of weights, dropout and the order of windows, 0 or more."""

    def __post_init__(self) -> None:
        _require_at_least(
            1, epochs=self.epochs, warm_epochs=self.warm_epochs, batch_size=self.batch_size
        )
        _require_at_least(0, seed=self.seed)
        if self.windows_per_epoch is not None:
            _require_at_least(1, windows_per_epoch=self.windows_per_epoch)
        for name in ("learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise InvalidConfig(f"{name} is {getattr(self, name)!r}: expected a number above 0")
        if not self.weight_decay >= 0:
            raise InvalidConfig(f"weight_decay is {self.weight_decay!r}: expected 0 or more")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training gives, but the candles themselves."""

    name: str
    """Name it is known by."""
    data: DataConfig
    """Candles and windows."""
    model: ModelConfig
    """Architecture."""
    train: TrainConfig
    """Optimisation."""
    split: SplitConfig = SplitConfig()  # noqa: RUF009  (frozen: one instance serves all)
    """Ranges by time."""

    def __post_init__(self) -> None:
        if self.model.n_symbols != len(self.data.symbols):
            raise InvalidConfig(
                f"recipe {self.name!r}: the model has {self.model.n_symbols} symbols, "
                f"the data {len(self.data.symbols)}"
            )
        if self.model.max_seq_len < self.data.lookback:
            raise InvalidConfig(
                f"recipe {self.name!r}: lookback is {self.data.lookback}, beyond the model's "
                f"{self.model.max_seq_len} positions"
            )

    @property
    def interval(self) -> Interval:
        """Candle interval."""
        return Interval.parse(self.data.interval)

    def with_data(self, **changes: Any) -> "Recipe":  # noqa: ANN401  (DataConfig's own fields)
        """Return the recipe for other candles or windows, its model fitted to them.

        Parameters
        ----------
        **changes
            Fields of `DataConfig`.
        """
        data = dataclasses.replace(self.data, **changes)
        model = dataclasses.replace(
            self.model,
            n_symbols=len(data.symbols),
            max_seq_len=max(data.lookback, 1),
        )
        return dataclasses.replace(self, data=data, model=model)

    def with_model(self, **changes: Any) -> "Recipe":  # noqa: ANN401  (ModelConfig's own fields)
        """Return the recipe with another architecture.

        Parameters
        ----------
        **changes
            Fields of `ModelConfig`.

        Raises
        ------
        InvalidConfig
            For a value out of its bounds, such as `n_layers=-4`.
        """
        return dataclasses.replace(self, model=dataclasses.replace(self.model, **changes))

    def with_training(self, **changes: Any) -> "Recipe":  # noqa: ANN401  (TrainConfig's own fields)
        """Return the recipe trained in another way.

        Parameters
        ----------
        **changes
            Fields of `TrainConfig`.
        """
        return dataclasses.replace(self, train=dataclasses.replace(self.train, **changes))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, fit for JSON."""
        return dataclasses.asdict(self)

    def fingerprint(self, snapshot: str) -> str:
        """Name a training: equal recipes on equal data, by one version of this package.

        Parameters
        ----------
        snapshot : str
            Hash of the windows, `WindowFrame.snapshot`.
        """
        text = json.dumps([self.to_dict(), snapshot, __version__], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def seed_recipe() -> Recipe:
    """Return the chapter's numbers: 6 layers of 8 heads on 2,048 bars, 50 epochs."""
    data = DataConfig()
    return Recipe(
        name="seed",
        data=data,
        model=_model(data),
        train=TrainConfig(epochs=50, warm_epochs=5, batch_size=16),
    )


def full_recipe() -> Recipe:
    """Return what a current GPU trains in minutes: the chapter's size with heads of 64.

    Wider heads and larger batches use the tensor cores better than the chapter's 8 x 32.
    """
    chapter = seed_recipe()
    return dataclasses.replace(
        chapter,
        name="full",
        model=dataclasses.replace(chapter.model, n_heads=4),
        train=TrainConfig(epochs=20, warm_epochs=4, batch_size=64, learning_rate=3e-4),
    )


def demo_recipe() -> Recipe:
    """Return a model that two CPU cores train in under a minute: 2 layers on 128 bars.

    Without dropout, under which PyTorch has no fused attention on a CPU: four times the speed.
    """
    data = DataConfig(lookback=128)
    return Recipe(
        name="demo",
        data=data,
        model=_model(data, d_model=32, n_heads=2, n_layers=2, d_ff=64, dropout=0.0),
        train=TrainConfig(
            epochs=8, warm_epochs=3, batch_size=64, learning_rate=1e-3, windows_per_epoch=2048
        ),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "demo": demo_recipe,
    "seed": seed_recipe,
    "full": full_recipe,
}
"""Recipes by name."""


def get_recipe(name: str) -> Recipe:
    """Return a recipe by its name.

    `auto` is `full` where PyTorch finds a CUDA device, else `demo`; the result carries the name
    of the one chosen.

    Raises
    ------
    UnknownRecipe
        For any other name.
    """
    if name == "auto":
        name = "full" if _cuda_available() else "demo"
    if name not in RECIPES:
        raise UnknownRecipe(f"recipe {name!r} is unknown: expected auto, {', '.join(RECIPES)}")
    return RECIPES[name]()


def _model(data: DataConfig, **changes: Any) -> ModelConfig:  # noqa: ANN401  (ModelConfig's fields)
    return ModelConfig(
        n_symbols=len(data.symbols),
        n_features=len(FEATURE_NAMES),
        max_seq_len=data.lookback,
        **changes,
    )


def _cuda_available() -> bool:
    import torch

    return torch.cuda.is_available()


def _require_at_least(least: int, **values: object) -> None:
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InvalidConfig(f"{name} is {value!r}: expected an integer of at least {least}")


__all__ = [
    "DEFAULT_SYMBOLS",
    "RECIPES",
    "DataConfig",
    "Recipe",
    "TrainConfig",
    "demo_recipe",
    "full_recipe",
    "get_recipe",
    "seed_recipe",
]
