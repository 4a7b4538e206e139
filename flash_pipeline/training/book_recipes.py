"""Recipes of the order book's model: sizes by name. Free of torch, like `recipes`."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flash_pipeline import __version__
from flash_pipeline.errors import InvalidConfig
from flash_pipeline.market import parse_symbols
from flash_pipeline.model.grid_config import LayoutName, OrderBookConfig
from flash_pipeline.training.recipes import TrainConfig, size_beside
from flash_pipeline.training.sources import PACKAGES, code_hash
from flash_pipeline.windows.split import SplitConfig

INPUTS = ("relative_price", "log_size", "age", "mid_move")
"""Inputs of a level, as `order_book.features.FEATURES`, which comes with more than a recipe
needs."""

CODE = (*PACKAGES, "order_book")
"""Parts of the package that decide what a training gives."""

VARIANTS: tuple[LayoutName, ...] = ("joint", "axial")
"""How the tokens attend; both have the same weights per layer and the same training."""


@dataclass(frozen=True)
class BookRecipe:
    """Everything that decides what a training gives, but the books themselves.

    Raises
    ------
    InvalidConfig
        If a value is out of its range.
    """

    name: str
    """Name it is known by."""
    hours: float
    """Hours that the embedded exchange simulates, above 0, ending at a midnight (UTC)."""
    model: OrderBookConfig
    """Architecture: levels and snapshots of a window as well."""
    train: TrainConfig
    """Optimisation; `seeds` trainings of the joint model, of which the best by its validation is
    kept."""
    symbols: tuple[str, ...] = ("BTCUSDT",)
    """Instruments; one model serves them all."""
    cadence_ms: int = 1_000
    """Milliseconds between two snapshots, at least 1."""
    horizons: tuple[int, ...] = (1, 10, 30)
    """Snapshots ahead that are predicted, as many as the model has horizons."""
    stride: int = 5
    """Snapshots from one window to the next, at least 1."""
    flat: float = 1 / 3
    """Share of the training moves that count as flat, 0 to below 1."""
    split: SplitConfig = SplitConfig(train=0.70, validation=0.15)  # noqa: RUF009  (frozen)
    """Ranges by time."""

    def __post_init__(self) -> None:
        parse_symbols(self.symbols)
        if not self.hours > 0:
            raise InvalidConfig(f"hours is {self.hours!r}: expected a number above 0")
        if self.cadence_ms < 1 or self.stride < 1:
            raise InvalidConfig(
                f"cadence_ms is {self.cadence_ms}, stride {self.stride}: expected at least 1 each"
            )
        if len(self.horizons) != self.model.n_horizons:
            raise InvalidConfig(
                f"recipe {self.name!r}: {len(self.horizons)} horizons and a model of "
                f"{self.model.n_horizons}: expected as many"
            )
        if self.model.n_features != len(INPUTS):
            raise InvalidConfig(
                f"recipe {self.name!r}: the model reads {self.model.n_features} inputs: expected "
                f"{len(INPUTS)}, {', '.join(INPUTS)}"
            )
        if not 0 <= self.flat < 1:
            raise InvalidConfig(f"flat is {self.flat!r}: expected 0 or more, below 1")

    def variant(self, layout: LayoutName) -> OrderBookConfig:
        """Return the architecture in a layout.

        Axial layers come in pairs, so that both axes are seen as often.
        """
        layers = self.model.n_layers
        if layout == "axial":
            layers += layers % 2
        return dataclasses.replace(self.model, layout=layout, n_layers=layers)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, fit for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    def fingerprint(self, snapshot: str) -> str:
        """Name a training: equal recipes on equal books, by the same code.

        Parameters
        ----------
        snapshot : str
            Hash of the books.
        """
        code = [__version__, code_hash(parts=CODE)]
        text = json.dumps([self.to_dict(), snapshot, *code], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def full_book_recipe() -> BookRecipe:
    """Return the chapter's size: 50 levels x 2 sides x 1,000 snapshots, 100,000 tokens.

    Two heads of 64: on a GPU several times as fast as the chapter's eight of 16. One window goes
    through at a time and takes 2 GiB, so nothing is computed twice to save memory. All snapshots
    of a window teach, so 3,072 windows show each of the training range about seven times.
    """
    return BookRecipe(
        name="full",
        hours=24.0 * 7,
        model=_model(50, 1_000, d_model=128, n_heads=2, n_layers=4, d_ff=512),
        train=TrainConfig(
            epochs=4,
            warm_epochs=1,
            batch_size=2,
            accumulation=2,
            learning_rate=5e-4,
            windows_per_epoch=768,
        ),
        stride=30,
    )


def demo_book_recipe() -> BookRecipe:
    """Return what two CPU cores train within a minute: 8 levels x 2 sides x 32 snapshots."""
    return BookRecipe(
        name="demo",
        hours=12.0,
        model=_model(8, 32, d_model=32, n_heads=1, n_layers=2, d_ff=64),
        train=TrainConfig(
            epochs=3, warm_epochs=1, batch_size=32, learning_rate=2e-3, windows_per_epoch=768
        ),
        stride=15,
    )


BOOK_RECIPES: dict[str, Callable[[], BookRecipe]] = {
    "demo": demo_book_recipe,
    "full": full_book_recipe,
}
"""Recipes by name."""


def get_book_recipe(name: str) -> BookRecipe:
    """Return the recipe that goes with one of the price model: see `size_beside`."""
    return BOOK_RECIPES[size_beside(name)]()


def _model(levels: int, history: int, **sizes: Any) -> OrderBookConfig:  # noqa: ANN401  (its own fields)
    return OrderBookConfig(
        levels,
        history,
        n_features=len(INPUTS),
        n_horizons=3,
        span="causal",
        supervision="dense",
        **sizes,
    )
