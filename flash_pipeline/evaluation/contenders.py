"""The transformer as a forecaster, alone or as an ensemble of seeds, beside the baselines.

Shape letters: N windows, S symbols.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flash_pipeline.errors import BundleMismatch, InvalidConfig
from flash_pipeline.evaluation.trading import predict_windows
from flash_pipeline.training.baselines import BASELINES, Forecaster, load_baseline
from flash_pipeline.training.bundle import DESCRIPTION_FILE as BUNDLE_FILE
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.predictor import Predictions
from flash_pipeline.training.recipes import Recipe
from flash_pipeline.training.scaler import Floats
from flash_pipeline.training.targets import anchor_volatility
from flash_pipeline.training.trainer import root_mean_square, train
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Positions, Split, purged

TRANSFORMER = "transformer"
"""The recipe's model, of as many seeds as the recipe says."""

ENSEMBLE = "ensemble"
"""The mean of the recipe's models from `ENSEMBLE_SEEDS` seeds, the recipe's own the first."""

ENSEMBLE_SEEDS = 3
"""Members of an ensemble."""

CONTENDERS = (*BASELINES, TRANSFORMER, ENSEMBLE)
"""Every model that a walk-forward can have, simplest first."""

Fit = Callable[[WindowFrame, Split], Forecaster]
"""From windows and a split to a fitted model."""


@dataclass(frozen=True)
class Network:
    """A trained transformer, or an ensemble of them, as a forecaster."""

    bundle: ModelBundle
    """The model."""

    @property
    def head(self) -> str:
        """What it predicts: regression, quantile, direction or allocation."""
        return self.bundle.config.head

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels of the quantiles, ascending; empty for the other heads."""
        config = self.bundle.config
        return tuple(config.head_options.quantiles) if config.head == "quantile" else ()

    @property
    def prediction_scale(self) -> float:
        """Root mean square of the predictions over the validation range."""
        return self.bundle.prediction_scale

    def predict(self, frame: WindowFrame, index_N: Positions) -> Predictions:
        """Return predictions for windows of a frame.

        Parameters
        ----------
        index_N : array
            Positions of windows, at least one.

        Raises
        ------
        BundleMismatch
            If the frame has other symbols, features or another horizon than the model.
        """
        bundle = self.bundle
        interval = frame.interval.value
        inputs = (frame.symbols, frame.features, interval, bundle.lookback, frame.horizon)
        if not bundle.serves(*inputs) or bundle.lookback > frame.lookback:
            raise BundleMismatch(
                f"trained on {', '.join(bundle.symbols)} {bundle.horizon} bars ahead from "
                f"{bundle.lookback} bars; the windows have {', '.join(frame.symbols)}, "
                f"{frame.horizon} and {frame.lookback}"
            )
        return predict_windows(frame, bundle, index_N)

    def unit(self, frame: WindowFrame, index_N: Positions) -> Floats:
        """Return what a scaled output of 1 comes to [N, S], in the unit of the head.

        A model that says the same at all dates predicts a multiple of it.
        """
        sigma_NS = anchor_volatility(frame)[index_N]
        ones_NS = np.ones_like(sigma_NS)
        return np.broadcast_to(self.bundle.to_units(ones_NS, sigma_NS), ones_NS.shape)

    def save(self, folder: Path) -> None:
        """Write it into an existing folder."""
        self.bundle.save(folder)


def load_forecaster(folder: Path) -> Forecaster:
    """Return the forecaster stored in a folder, of whatever kind.

    Raises
    ------
    BundleMismatch
        If there is none.
    """
    if (folder / BUNDLE_FILE).is_file():
        return Network(ModelBundle.load(folder))
    return load_baseline(folder)


def contenders(
    recipe: Recipe, names: Sequence[str], *, seeds: int = ENSEMBLE_SEEDS
) -> Mapping[str, Fit]:
    """Return what fits each model of a list, for one fold.

    The transformer is the ensemble's beginning: where both are asked for it is trained once.

    Parameters
    ----------
    recipe : Recipe
        Of the transformer.
    names : sequence of str
        Of `CONTENDERS`, none twice.
    seeds : int
        Members of the ensemble, at least 2.

    Raises
    ------
    InvalidConfig
        For a name that is unknown or listed twice, for an ensemble of fewer than 2, and for one
        beside a recipe that is no smaller ensemble itself.
    """
    unknown = [name for name in names if name not in CONTENDERS]
    if unknown or not names or len(set(names)) < len(names):
        raise InvalidConfig(
            f"models {', '.join(names) or 'none'}: expected some of {', '.join(CONTENDERS)}, "
            "none twice"
        )
    if seeds < 2:
        raise InvalidConfig(f"seeds={seeds}: expected an ensemble of at least 2")
    if ENSEMBLE in names and seeds <= recipe.train.seeds:
        raise InvalidConfig(
            f"the recipe {recipe.name!r} is an ensemble of {recipe.train.seeds} itself: expected "
            f"{TRANSFORMER} without {ENSEMBLE}"
        )
    trained: list[ModelBundle] = []

    def network(count: int) -> Fit:
        def fit(frame: WindowFrame, split: Split) -> Forecaster:
            _require_apart(frame, split, recipe)
            for number in range(len(trained), count):
                seeded = recipe.with_training(seed=recipe.train.seed + number, seeds=1)
                trained.append(train(frame, split, seeded).bundle)
            return Network(_joined(frame, split, trained[:count]))

        return fit

    networks = {TRANSFORMER: network(recipe.train.seeds), ENSEMBLE: network(seeds)}
    return {name: networks[name] if name in networks else BASELINES[name].fit for name in names}


def _joined(frame: WindowFrame, split: Split, members: Sequence[ModelBundle]) -> ModelBundle:
    """Return one model of members that differ in their seed alone."""
    if len(members) == 1:
        return members[0]
    siblings = tuple(member.weights for member in members[1:])
    bundle = dataclasses.replace(members[0], siblings=siblings)
    told_NS = predict_windows(frame, bundle, split.validation_N).value_NS
    return dataclasses.replace(bundle, prediction_scale=root_mean_square(told_NS))


def _require_apart(frame: WindowFrame, split: Split, recipe: Recipe) -> None:
    """Refuse a split whose training windows teach labels of the ranges that judge the result."""
    reach = frame.lookback - 1 if recipe.model.supervision == "dense" else 0
    judged = {"validation": split.validation_N, "test": split.test_N}
    for name, judged_N in judged.items():
        met = len(split.train_N) - len(purged(frame, split.train_N, judged_N, reach=reach))
        if met:
            raise InvalidConfig(
                f"{met} training windows teach labels of the {name} range: expected folds that "
                f"are purged with reach={reach}, since the recipe {recipe.name!r} is supervised "
                f"{recipe.model.supervision!r}"
            )
