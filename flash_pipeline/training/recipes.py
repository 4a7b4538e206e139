"""Recipes: complete configurations by name. Free of torch, so that Dagster loads them quickly."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flash_pipeline import __version__
from flash_pipeline.errors import InvalidConfig, UnknownRecipe
from flash_pipeline.features import FEATURE_NAMES
from flash_pipeline.market import Interval
from flash_pipeline.model.config import ModelConfig
from flash_pipeline.training.recipe_parts import DEFAULT_SYMBOLS, DataConfig, TrainConfig
from flash_pipeline.training.sources import code_hash
from flash_pipeline.windows.split import SplitConfig


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
        if self.model.head == "allocation" and self.train.accumulation > 1:
            raise InvalidConfig(
                f"recipe {self.name!r}: accumulation is {self.train.accumulation} with head "
                "'allocation': expected 1, since the loss of a batch of portfolio returns is not "
                "the mean of its parts' losses"
            )
        model, lookback = self.model, self.data.lookback
        if model.streams and model.reach is not None and model.reach > lookback:
            raise InvalidConfig(
                f"recipe {self.name!r}: {model.n_layers} layers of window {model.window} reach "
                f"{model.reach} bars back, beyond the lookback of {lookback}: expected a window of "
                f"at most {_widest_window(lookback, model.n_layers)}"
            )

    @property
    def interval(self) -> Interval:
        """Candle interval."""
        return Interval.parse(self.data.interval)

    def with_data(self, **changes: Any) -> "Recipe":  # noqa: ANN401  (DataConfig's own fields)
        """Return the recipe for other candles or windows, its model fitted to them.

        A sliding window that would reach beyond a shorter lookback is narrowed.

        Parameters
        ----------
        **changes
            Fields of `DataConfig`.
        """
        data = dataclasses.replace(self.data, **changes)
        window = self.model.window
        if window is not None and self.model.streams:
            window = min(window, _widest_window(data.lookback, self.model.n_layers))
        model = dataclasses.replace(
            self.model, n_symbols=len(data.symbols), max_seq_len=data.lookback, window=window
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
        """Return the fields as plain values, fit for JSON; `from_dict` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """Return the recipe that `to_dict` wrote, be it by way of JSON.

        Raises
        ------
        InvalidConfig
            If a field is unknown or missing, or a value out of its bounds.
        """
        try:
            data = {**values["data"], "symbols": tuple(values["data"]["symbols"])}
            return cls(
                name=values["name"],
                data=DataConfig(**data),
                model=ModelConfig.from_dict(values["model"]),
                train=TrainConfig(**values["train"]),
                split=SplitConfig(**values["split"]),
            )
        except (KeyError, TypeError) as error:
            raise InvalidConfig(f"no recipe of this version: {error}") from error

    def fingerprint(self, snapshot: str) -> str:
        """Name a training: equal recipes on equal data, by the same code.

        The code is the version of this package and `code_hash`: after a change to what makes a
        training, it is done again.

        Parameters
        ----------
        snapshot : str
            Hash of the windows, `WindowFrame.snapshot`.
        """
        text = json.dumps([self.to_dict(), snapshot, __version__, code_hash()], sort_keys=True)
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
    """Return what a current GPU trains in a minute: the chapter's size, at every bar of a window.

    Sliding attention with rotary positions reaches back 2,047 bars over its six layers, so a
    prediction depends on its own window alone and a year of them is one pass. Every bar teaches:
    a window holds 2,048 targets instead of one, so few windows make a pass. Heads of 64 use the
    tensor cores better than the chapter's of 32.
    """
    chapter = seed_recipe()
    return dataclasses.replace(
        chapter,
        name="full",
        model=dataclasses.replace(
            chapter.model,
            n_heads=4,
            span="sliding",
            window=_widest_window(chapter.data.lookback, chapter.model.n_layers),
            positions="rotary",
            supervision="dense",
            dropout=0.0,
        ),
        train=TrainConfig(
            epochs=20,
            warm_epochs=4,
            batch_size=16,
            learning_rate=3e-4,
            windows_per_epoch=512,
            ema_decay=0.99,
            target_scaling="volatility",
        ),
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


def low_latency_recipe() -> Recipe:
    """Return the chapter's model for calls of one window: 3 layers of 4 heads on 512 bars.

    Causal, rotary and taught at every bar, like `full`; `model.export` makes it a call of about a
    millisecond (`python -m benchmarks.latency`).
    """
    full = full_recipe()
    data = DataConfig(lookback=512)
    return dataclasses.replace(
        full,
        name="low-latency",
        data=data,
        model=_model(
            data,
            d_model=128,
            n_heads=4,
            n_layers=3,
            d_ff=512,
            span="causal",
            positions="rotary",
            supervision="dense",
            dropout=0.0,
        ),
        train=dataclasses.replace(full.train, batch_size=64, windows_per_epoch=2048),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "demo": demo_recipe,
    "seed": seed_recipe,
    "full": full_recipe,
    "low-latency": low_latency_recipe,
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


def size_beside(name: str) -> Literal["demo", "full"]:
    """Return the size of the order book's and the portfolio's recipe beside a price model's.

    `demo` beside `demo`, `full` beside every other: those train on a GPU too. `low-latency` is
    small for the sake of one call of the price model, which says nothing of the other two.

    Parameters
    ----------
    name : str
        As for `get_recipe`; `auto` is resolved as there.

    Raises
    ------
    UnknownRecipe
        If there is no such recipe.
    """
    return "demo" if get_recipe(name).name == "demo" else "full"


def _model(data: DataConfig, **changes: Any) -> ModelConfig:  # noqa: ANN401  (ModelConfig's fields)
    return ModelConfig(
        n_symbols=len(data.symbols),
        n_features=len(FEATURE_NAMES),
        max_seq_len=data.lookback,
        **changes,
    )


def _widest_window(lookback: int, layers: int) -> int:
    """Return the widest sliding window with which so many layers see no more than a lookback."""
    return (lookback - 1) // layers + 1


def _cuda_available() -> bool:
    import torch

    return torch.cuda.is_available()


__all__ = [
    "DEFAULT_SYMBOLS",
    "RECIPES",
    "DataConfig",
    "Recipe",
    "TrainConfig",
    "demo_recipe",
    "full_recipe",
    "get_recipe",
    "low_latency_recipe",
    "seed_recipe",
    "size_beside",
]
