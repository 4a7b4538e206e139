"""From a panel to a registered portfolio model, and its decisions on the hours it has not seen.

<home>/portfolio/decisions.parquet    a row per decision: fold, hour, weights of each training
<home>/portfolio/session.json         what was trained, on which dates, and how it went
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from flash_pipeline.errors import FileDamaged, NotEnoughHistory
from flash_pipeline.market import iso_utc
from flash_pipeline.portfolio import FEATURES, Fold, MarketPanel, walk_forward
from flash_pipeline.settings import Settings
from flash_pipeline.storage.files import replacing_folder
from flash_pipeline.training.ceilings import require_gpu
from flash_pipeline.training.checkpoint import Checkpoint, kept
from flash_pipeline.training.grid_bundle import GridBundle
from flash_pipeline.training.portfolio_fit import (
    MarketTensors,
    PortfolioFit,
    asset_attention,
    decide,
    fit_portfolio,
)
from flash_pipeline.training.portfolio_recipes import VARIANTS, PortfolioRecipe
from flash_pipeline.training.runtime import fitting_threads

Floats = npt.NDArray[np.float64]

DECISIONS_FILE = "decisions.parquet"
SESSION_FILE = "session.json"

CHECKPOINTS = "portfolio"
"""Folder below those of the settings that holds the checkpoints of a walk's trainings."""

ATTENTION_WINDOWS = 4
"""Windows, evenly over the last test range, that the attention is averaged over."""


@dataclass(frozen=True, eq=False)
class Decisions:
    """What every training decided on the test ranges, one after the other.

    N decisions, A assets.
    """

    symbols: tuple[str, ...]
    """Order of the assets."""
    start_time_N: npt.NDArray[np.int64]
    """Open of the hour at whose close a decision is made, ms since the epoch."""
    fold_N: npt.NDArray[np.int64]
    """Number of the fold whose test range it is in."""
    weights: Mapping[str, Floats]
    """Weights [N, A] by training, `joint/58` (variant and seed)."""
    attention_AA: Floats
    """Of the last fold's chosen model: see `asset_attention`."""
    facts: Mapping[str, Any]
    """Fit for JSON: snapshot, recipe, folds, each training's history, and which was `chosen` for
    each fold by its validation loss."""

    @property
    def chosen_NA(self) -> Floats:
        """Weights of the training that each fold's validation chose."""
        chosen = {each["fold"]: each["training"] for each in self.facts["chosen"]}
        rows = [self.weights[chosen[fold]][n] for n, fold in enumerate(self.fold_N.tolist())]
        return np.stack(rows)

    def best_of(self, variant: str) -> Floats:
        """Return the weights [N, A] of a variant: those of each fold's best seed by validation."""
        best: dict[int, dict[str, Any]] = {}
        for fit in self.facts["fits"]:
            known = best.get(fit["fold"])
            if fit["variant"] == variant and (known is None or _loss(fit) < _loss(known)):
                best[fit["fold"]] = fit
        rows = [
            self.weights[best[fold]["training"]][n] for n, fold in enumerate(self.fold_N.tolist())
        ]
        return np.stack(rows)

    def save(self, folder: Path) -> None:
        """Write the folder, whole or not at all."""
        columns = {"fold": pa.array(self.fold_N), "start_time": pa.array(self.start_time_N)}
        for name, weights_NA in self.weights.items():
            flat = pa.array(np.ascontiguousarray(weights_NA).reshape(-1))
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, len(self.symbols))
        facts = {
            **self.facts,
            "symbols": list(self.symbols),
            "attention": [[None if v != v else v for v in row] for row in self.attention_AA],
        }
        with replacing_folder(folder) as temporary:
            pq.write_table(pa.table(columns), temporary / DECISIONS_FILE)
            text = json.dumps(facts, indent=1, allow_nan=False)
            (temporary / SESSION_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Decisions":
        """Read the folder.

        Raises
        ------
        NotEnoughHistory
            If there is none.
        FileDamaged
            If it cannot be read.
        """
        if not (folder / SESSION_FILE).is_file():
            raise NotEnoughHistory(f"{folder} has no decisions: materialize portfolio_model first")
        try:
            facts = json.loads((folder / SESSION_FILE).read_text(encoding="utf-8"))
            table = pq.read_table(folder / DECISIONS_FILE)
            symbols = tuple(facts.pop("symbols"))
            attention = np.array(
                [[np.nan if v is None else v for v in row] for row in facts.pop("attention")]
            )
        except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
            raise FileDamaged(f"{folder} cannot be read: {error}") from error
        weights = {
            name: table[name].combine_chunks().flatten().to_numpy().reshape(-1, len(symbols))
            for name in table.column_names
            if name not in ("fold", "start_time")
        }
        return cls(
            symbols,
            table["start_time"].to_numpy(),
            table["fold"].to_numpy(),
            weights,
            attention,
            facts,
        )


@dataclass(frozen=True, eq=False)
class PortfolioSession:
    """What became of a training."""

    decisions: Decisions
    """On the test ranges."""
    bundle: GridBundle
    """The last fold's chosen model."""
    example: npt.NDArray[np.float32]
    """The newest window [1, L, A, F], NaN where a token is absent."""


def train_portfolio(
    panel: MarketPanel, recipe: PortfolioRecipe, checkpoint: Checkpoint | None = None
) -> PortfolioSession:
    """Walk forward over a panel: train both variants on each fold, choose, decide, and look.

    Both variants have the same weights, number of steps and windows. A fold's model is the
    training with the least validation loss, whichever its variant and seed.

    Parameters
    ----------
    checkpoint : Checkpoint or None
        Each training of the walk has one of its members: of a killed walk those that are finished
        are not trained again, and the one that was running goes on.

    Raises
    ------
    NotEnoughHistory
        If a fold is too short, or the history shorter than a window.
    TrainingDiverged
        If a loss is no number.
    """
    folds = walk_forward(panel, recipe.model.lookback, recipe.horizon, recipe.walk)
    rows = _decision_rows(folds, recipe.horizon)
    keys = [f"{v}/{s}" for v in VARIANTS for s in _seeds(recipe)]
    count = len(folds) * len(keys)
    weights = {key: np.zeros((len(rows), len(panel.symbols))) for key in keys}
    fold_N = np.array([next(f.number for f in folds if row in f.test) for row in rows])
    fits: list[dict[str, Any]] = []
    chosen: list[dict[str, Any]] = []
    with fitting_threads(recipe.model.d_model):
        for fold in folds:
            tensors = MarketTensors(panel, fold.train, recipe.horizon, recipe.train.least_hours)
            own_N = np.flatnonzero(fold_N == fold.number)
            best: tuple[str, PortfolioFit] | None = None
            for variant in VARIANTS:
                config = recipe.config(len(panel.symbols), variant)
                for seed in _seeds(recipe):
                    key = f"{variant}/{seed}"
                    own = None if checkpoint is None else checkpoint.member(len(fits), count)
                    fit = fit_portfolio(tensors, fold, config, recipe.train, seed, own)
                    weights[key][own_N] = decide(fit.model, tensors, [rows[n] for n in own_N])
                    fits.append(_told(fit, key, variant, fold))
                    if best is None or _better(fit, best[1]):
                        best = (key, fit)
            assert best is not None
            newest = best
            chosen.append({"fold": fold.number, "training": best[0]})
        looked = [rows[n] for n in own_N[:: max(1, len(own_N) // ATTENTION_WINDOWS)]]
        attention_AA = asset_attention(newest[1].model, tensors, looked)
    facts = {
        "snapshot": panel.snapshot,
        "synthetic": panel.synthetic,
        "fingerprint": recipe.fingerprint(panel.snapshot),
        "recipe": recipe.to_dict(),
        "budget": f"{recipe.train.steps} steps of {recipe.train.batch_size} windows each",
        "folds": [fold.to_dict(panel) for fold in folds],
        "fits": fits,
        "chosen": chosen,
    }
    start_time_N = panel.start_time_T[rows]
    decisions = Decisions(panel.symbols, start_time_N, fold_N, weights, attention_AA, facts)
    details = _details(panel, recipe, folds[-1], tensors, newest)
    hours = recipe.model.lookback
    example = np.where(panel.present_TA & tensors.seen_A, 1.0, np.nan)[-hours:, :, None]
    return PortfolioSession(
        decisions,
        GridBundle.of(newest[1].model, details),
        (panel.x_TAF[-hours:] * example)[None].astype(np.float32),
    )


def run_portfolio(
    settings: Settings, panel: MarketPanel, recipe: PortfolioRecipe, *, tags: Mapping[str, str]
) -> tuple[Decisions, str, str]:
    """Train, store the decisions, and register the model as challenger.

    A recipe that was trained on exactly this panel already gives its version again. A training that
    was killed goes on from its checkpoints where it is asked for again on the same panel: see
    `train_portfolio`.

    Returns
    -------
    decisions : Decisions
        As stored; their facts have the `version`.
    story : str
        What was done, in words.
    url : str
        Page of the MLflow run.

    Raises
    ------
    TrackingUnreachable
        If MLflow does not answer.
    GpuUnavailable
        As for `require_gpu`.
    NotEnoughHistory, TrainingDiverged
        As for `train_portfolio`.
    """
    from flash_pipeline.training.portfolio_figures import loss_curves
    from flash_pipeline.training.tracking.sequences import (
        PORTFOLIO_MODEL,
        find_sequence,
        register_sequence_model,
    )

    fingerprint = recipe.fingerprint(panel.snapshot)
    known = find_sequence(settings, PORTFOLIO_MODEL, fingerprint)
    if known is not None and _stored(settings.portfolio) == fingerprint:
        return Decisions.load(settings.portfolio), "trained before on this panel", known.url
    require_gpu(settings, recipe.name)
    folder, minutes = settings.checkpoints / CHECKPOINTS, recipe.train.checkpoint_minutes
    checkpoint = Checkpoint(folder, fingerprint, "random weights", minutes)
    checkpoint.remove_others()
    with kept(checkpoint):
        session = train_portfolio(panel, recipe, checkpoint)
        made = register_sequence_model(
            settings,
            PORTFOLIO_MODEL,
            session.bundle,
            params={"recipe": recipe.to_dict()},
            metrics={
                f"{fit['training']}_fold_{fit['fold']}/validation_loss": _loss(fit)
                for fit in session.decisions.facts["fits"]
            },
            figures={"loss.png": loss_curves(session.decisions.facts["fits"])},
            tags={**tags, "fingerprint": fingerprint, "snapshot": panel.snapshot},
            example=session.example,
            known=known,
        )
        old = session.decisions
        facts = {**old.facts, "version": made.version}
        decisions = Decisions(
            old.symbols, old.start_time_N, old.fold_N, old.weights, old.attention_AA, facts
        )
        decisions.save(settings.portfolio)
    return decisions, f"trained {len(facts['fits'])} models", made.url


def decide_with(bundle: GridBundle, panel: MarketPanel, rows: list[int]) -> Floats:
    """Return the weights [N, A] of a stored model, in the order of the panel's assets.

    An asset that the model was not trained on has the weight 0, and one of the model's that the
    panel lacks is absent.

    Raises
    ------
    NotEnoughHistory
        If the panel has none of the model's assets, or a window begins before it.
    """
    from flash_pipeline.model.portfolio import PortfolioModel

    model = bundle.model()
    assert isinstance(model, PortfolioModel)
    if min(rows) < model.config.lookback - 1:
        raise NotEnoughHistory(
            f"a decision of {iso_utc(panel.made_at(min(rows)))} has {min(rows) + 1} hours before "
            f"it: expected the model's window of {model.config.lookback}"
        )
    own = panel.columns(bundle.details["symbols"])
    tensors = MarketTensors(own, range(len(own.start_time_T)), bundle.details["horizon"], 1)
    seen_A = np.isin(bundle.details["symbols"], bundle.details["seen"])
    tensors.present_TA &= tensors.present_TA.new_tensor(seen_A)
    weights_NA = decide(model.to(tensors.device), tensors, rows)
    place = {symbol: a for a, symbol in enumerate(own.symbols)}
    out_NA = np.zeros((len(rows), len(panel.symbols)))
    for a, symbol in enumerate(panel.symbols):
        if symbol in place:
            out_NA[:, a] = weights_NA[:, place[symbol]]
    return out_NA


def _decision_rows(folds: list[Fold], horizon: int) -> list[int]:
    """Return the hours of decisions: every horizon, on through all test ranges."""
    return list(range(folds[0].test.start, folds[-1].test.stop, horizon))


def _seeds(recipe: PortfolioRecipe) -> range:
    return range(recipe.train.seed, recipe.train.seed + recipe.train.seeds)


def _better(fit: PortfolioFit, best: PortfolioFit) -> bool:
    return fit.best.validation_loss < best.best.validation_loss


def _loss(fit: Mapping[str, Any]) -> float:
    return float(min(look["validation_loss"] for look in fit["history"]))


def _told(fit: PortfolioFit, key: str, variant: str, fold: Fold) -> dict[str, Any]:
    return {
        "training": key,
        "variant": variant,
        "seed": fit.seed,
        "fold": fold.number,
        "seconds": round(fit.seconds, 2),
        "resumed": fit.resumed,
        "attention": fit.attention,
        "best_step": fit.best.step,
        "history": [vars(look) for look in fit.history],
    }


def _details(
    panel: MarketPanel,
    recipe: PortfolioRecipe,
    fold: Fold,
    tensors: MarketTensors,
    best: tuple[str, PortfolioFit],
) -> dict[str, Any]:
    return {
        "symbols": list(panel.symbols),
        "seen": [s for s, seen in zip(panel.symbols, tensors.seen_A, strict=True) if seen],
        "features": list(FEATURES),
        "horizon": recipe.horizon,
        "training": best[0],
        "validation_loss": best[1].best.validation_loss,
        "recipe": recipe.name,
        "fingerprint": recipe.fingerprint(panel.snapshot),
        "snapshot": panel.snapshot,
        "synthetic": panel.synthetic,
        "split": fold.to_dict(panel),
        "seen_until": panel.made_at(fold.validation[-1] + recipe.horizon),
    }


def _stored(folder: Path) -> str | None:
    """Return the fingerprint of the stored decisions, None where there are none."""
    try:
        return str(Decisions.load(folder).facts.get("fingerprint"))
    except (NotEnoughHistory, FileDamaged):
        return None
