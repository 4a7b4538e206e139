"""The transformer as a forecaster, alone or as an ensemble of seeds, beside the baselines.

Shape letters: N windows, S symbols.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flash_pipeline.errors import BundleMismatch, InvalidConfig
from flash_pipeline.evaluation.measures import measured_as
from flash_pipeline.evaluation.trading import predict_windows
from flash_pipeline.training.baselines import BASELINES, Forecaster, load_baseline
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.predictor import Predictions
from flash_pipeline.training.recipes import Recipe
from flash_pipeline.training.trainer import train
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Positions, Split, purged

TRANSFORMER = "transformer"
"""The recipe's model, from the recipe's seed."""

ENSEMBLE = "ensemble"
"""The mean of the recipe's models from `ENSEMBLE_SEEDS` seeds, the recipe's own the first."""

ENSEMBLE_SEEDS = 3
"""Members of an ensemble."""

CONTENDERS = (*BASELINES, TRANSFORMER, ENSEMBLE)
"""Every model that a walk-forward can have, simplest first."""

Fit = Callable[[WindowFrame, Split], Forecaster]
"""From windows and a split to a fitted model."""

_MEMBERS_FILE = "ensemble.json"


@dataclass(frozen=True)
class Network:
    """The mean of one or more trained transformers of one architecture."""

    members: tuple[ModelBundle, ...]
    """Models that differ in their seed alone, at least one."""

    def __post_init__(self) -> None:
        if not self.members:
            raise InvalidConfig("an ensemble of no model: expected at least 1")
        kinds = {measured_as(member.config) for member in self.members}
        if len(kinds) > 1:
            raise InvalidConfig(f"an ensemble of {', '.join(sorted(kinds))}: expected one of them")

    @property
    def head(self) -> str:
        """What it predicts: regression, quantile, direction or allocation."""
        return self.members[0].config.head

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels of the quantiles, ascending; empty for the other heads."""
        config = self.members[0].config
        return tuple(config.head_options.quantiles) if config.head == "quantile" else ()

    def predict(self, frame: WindowFrame, index_N: Positions) -> Predictions:
        """Return the mean of the members' predictions, of quantiles level by level.

        (Mean quantiles: Lichtendahl, Grushka-Cockayne and Winkler 2013, Is It Better to Average
        Probabilities or Quantiles?)

        Parameters
        ----------
        index_N : array
            Positions of windows, at least one.

        Raises
        ------
        BundleMismatch
            If the frame has other symbols, features or another horizon than the members.
        """
        bundle = self.members[0]
        interval = frame.interval.value
        inputs = (frame.symbols, frame.features, interval, bundle.lookback, frame.horizon)
        if not bundle.serves(*inputs) or bundle.lookback > frame.lookback:
            raise BundleMismatch(
                f"trained on {', '.join(bundle.symbols)} {bundle.horizon} bars ahead from "
                f"{bundle.lookback} bars; the windows have {', '.join(frame.symbols)}, "
                f"{frame.horizon} and {frame.lookback}"
            )
        told = [predict_windows(frame, member, index_N) for member in self.members]
        quantiles = [one.quantiles_NSQ for one in told if one.quantiles_NSQ is not None]
        return Predictions(
            np.mean([one.value_NS for one in told], axis=0),
            np.mean(quantiles, axis=0) if quantiles else None,
        )

    def save(self, folder: Path) -> None:
        """Write it into an existing folder, each member into one of its own."""
        text = json.dumps({"members": len(self.members)})
        (folder / _MEMBERS_FILE).write_text(text + "\n", encoding="utf-8")
        for number, member in enumerate(self.members):
            (folder / f"member-{number}").mkdir()
            member.save(folder / f"member-{number}")

    @classmethod
    def load(cls, folder: Path) -> "Network":
        """Read what `save` wrote.

        Raises
        ------
        BundleMismatch
            If the folder holds no such model.
        """
        try:
            values = json.loads((folder / _MEMBERS_FILE).read_text(encoding="utf-8"))
            numbers = range(values["members"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleMismatch(f"{folder} holds no ensemble: {error}") from error
        return cls(tuple(ModelBundle.load(folder / f"member-{number}") for number in numbers))


def load_forecaster(folder: Path) -> Forecaster:
    """Return the forecaster stored in a folder, of whatever kind.

    Raises
    ------
    BundleMismatch
        If there is none.
    """
    if (folder / _MEMBERS_FILE).is_file():
        return Network.load(folder)
    return load_baseline(folder)


def contenders(
    recipe: Recipe, names: Sequence[str], *, seeds: int = ENSEMBLE_SEEDS
) -> Mapping[str, Fit]:
    """Return what fits each model of a list, for one fold.

    The transformer is the ensemble's first member: where both are asked for it is trained once.

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
        For a name that is unknown or listed twice, and for an ensemble of fewer than 2.
    """
    unknown = [name for name in names if name not in CONTENDERS]
    if unknown or not names or len(set(names)) < len(names):
        raise InvalidConfig(
            f"models {', '.join(names) or 'none'}: expected some of {', '.join(CONTENDERS)}, "
            "none twice"
        )
    if seeds < 2:
        raise InvalidConfig(f"seeds={seeds}: expected an ensemble of at least 2")
    trained: dict[int, ModelBundle] = {}

    def network(count: int) -> Fit:
        def fit(frame: WindowFrame, split: Split) -> Forecaster:
            _require_apart(frame, split, recipe)
            for number in range(len(trained), count):
                seeded = recipe.with_training(seed=recipe.train.seed + number)
                trained[number] = train(frame, split, seeded).bundle
            return Network(tuple(trained[number] for number in range(count)))

        return fit

    networks = {TRANSFORMER: network(1), ENSEMBLE: network(seeds)}
    return {name: networks[name] if name in networks else BASELINES[name].fit for name in names}


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
