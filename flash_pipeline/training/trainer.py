"""From stored windows to a model bundle: scaling, fitting, and what a warm start may use."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from flash_pipeline.market import iso_utc
from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training.bundle import ModelBundle, Provenance, default_device
from flash_pipeline.training.checkpoint import Checkpoint
from flash_pipeline.training.loop import Fitted, fit, predict
from flash_pipeline.training.recipes import Recipe
from flash_pipeline.training.runtime import fitting_threads, seeded
from flash_pipeline.training.scaler import FeatureScaler, Floats
from flash_pipeline.training.state import Epoch
from flash_pipeline.training.targets import (
    TargetScaler,
    anchor_volatility,
    fit_targets,
    in_units,
    targets_kind,
    volatility_of,
)
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.dataset import WindowBatches, window_batches
from flash_pipeline.windows.split import Split


@dataclass(frozen=True)
class Training:
    """What a training gave."""

    bundle: ModelBundle
    """The checkpoint with the lowest validation loss, of every member."""
    history: tuple[Epoch, ...]
    """One entry per epoch; of an ensemble those of its members one after another."""
    attention: str
    """The attention backend used, and why."""
    form: str
    """How the steps ran: captured, or eager and why."""
    device: str
    """Where it ran."""
    parameters: int
    """Trainable parameters, of all members."""
    resumed: str | None = None
    """Where a checkpoint let it go on, in words; None where it ran through."""

    @property
    def best(self) -> Epoch:
        """The epoch of the checkpoint; of an ensemble that of its best member."""
        return min(self.history, key=lambda epoch: epoch.validation_loss)


@dataclass(frozen=True)
class Parent:
    """A registered model whose weights are to be the start of a training."""

    version: str
    """Its version in the registry."""
    bundle: ModelBundle
    """The model."""


def train(
    frame: WindowFrame,
    split: Split,
    recipe: Recipe,
    *,
    parent: Parent | None = None,
    device: torch.device | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    progress: bool = False,
    checkpoint: Checkpoint | None = None,
) -> Training:
    """Train a model on the training windows of a split, or an ensemble of them by its seeds.

    Scalers are fitted on the bars and labels of the training range alone. On a CPU the same
    inputs give the same weights, bit for bit. On a GPU matrix products run under bf16 autocast
    with float32 weights.

    Parameters
    ----------
    parent : Parent or None
        Weights to start from, for `recipe.train.warm_epochs` passes; None for random weights and
        `recipe.train.epochs` passes. Ask `warm_start_refusal` first: weights that have seen the
        validation or test range would make their figures worthless.
    device : torch.device or None
        By default a CUDA device where there is one.
    on_epoch : callable
        Called after each epoch, to log it; those of further members are numbered on.
    progress : bool
        Draw a progress bar, in a terminal only.
    checkpoint : Checkpoint or None
        What a killed training goes on from; the caller removes it when the result is safe.

    Raises
    ------
    InvalidInput
        If a scaled input is NaN or infinite, or a label infinite; named by symbol and time.
    TrainingDiverged
        If the loss becomes NaN or infinite.
    OutOfMemory
        If a step, or a pass over the validation range, does not fit the GPU.
    AttentionUnsupported
        If the recipe's attention backend cannot run here.
    """
    device = device or default_device()
    features, targets = fit_scalers(frame, split, recipe)
    sigma_BKS = volatility_of(frame.x_BKSF, frame.features)
    batches = window_batches(
        frame, features.transform(frame.x_BKSF), targets.transform(frame.y_BKS, sigma_BKS), device
    )
    members = [
        _fit_member(
            number,
            batches,
            split,
            recipe,
            parent,
            device,
            on_epoch=on_epoch,
            progress=progress,
            checkpoint=checkpoint,
        )
        for number in range(recipe.train.seeds)
    ]
    sigma_NS = anchor_volatility(frame)[split.validation_N]
    told = [in_units(recipe.model, targets, each.outputs_NS, sigma_NS) for each in members]
    first, *others = members
    bundle = ModelBundle(
        config=recipe.model,
        weights=first.weights,
        siblings=tuple(each.weights for each in others),
        features=features,
        targets=targets,
        symbols=frame.symbols,
        feature_names=frame.features,
        interval=frame.interval.value,
        lookback=frame.lookback,
        horizon=frame.horizon,
        prediction_scale=root_mean_square(np.mean(told, axis=0)),
        provenance=_provenance(frame, split, recipe, parent),
    )
    resumed = [each.resumed for each in members if each.resumed is not None]
    return Training(
        bundle,
        tuple(epoch for each in members for epoch in each.history),
        first.fitted.attention,
        first.fitted.form,
        _name(device),
        sum(weight.numel() for each in members for weight in each.weights.values()),
        "; ".join(resumed) or None,
    )


def root_mean_square(values_NS: Floats) -> float:
    """Return the usual size of predictions."""
    return float(np.sqrt(np.mean(values_NS.astype(np.float64) ** 2)))


@dataclass(frozen=True)
class _Member:
    """One model of an ensemble, or the only one."""

    weights: dict[str, torch.Tensor]
    outputs_NS: Floats
    """Predictions of the validation range, scaled."""
    fitted: Fitted
    history: tuple[Epoch, ...]
    """Numbered after the members before."""
    resumed: str | None


def _fit_member(
    number: int,
    batches: WindowBatches,
    split: Split,
    recipe: Recipe,
    parent: Parent | None,
    device: torch.device,
    *,
    on_epoch: Callable[[Epoch], None],
    progress: bool,
    checkpoint: Checkpoint | None,
) -> _Member:
    config = dataclasses.replace(recipe.train, seed=recipe.train.seed + number)
    epochs = config.epochs if parent is None else config.warm_epochs
    kept = None if checkpoint is None else checkpoint.member(number, config.seeds)

    def renumbered(epoch: Epoch) -> Epoch:
        return dataclasses.replace(epoch, number=number * epochs + epoch.number)

    with seeded(config.seed), fitting_threads(recipe.model.d_model):
        model = FlashAttentionTrader(recipe.model).to(device)
        if parent is not None:
            model.load_state_dict(parent.bundle.member_weights[number])
        fitted = fit(
            model,
            batches,
            split.train_N,
            split.validation_N,
            config,
            epochs=epochs,
            on_epoch=lambda epoch: on_epoch(renumbered(epoch)),
            progress=progress,
            checkpoint=kept,
        )
        outputs_NS = predict(model, batches, split.validation_N)
    weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    history = tuple(renumbered(epoch) for epoch in fitted.history)
    resumed = kept.resumed if kept is not None else None
    if resumed is not None and config.seeds > 1:
        resumed = f"member {number + 1} {resumed}"
    return _Member(weights, outputs_NS, fitted, history, resumed)


def fit_scalers(
    frame: WindowFrame, split: Split, recipe: Recipe
) -> tuple[FeatureScaler, TargetScaler]:
    """Fit the scalers on the bars up to the last training anchor, and on the training labels."""
    x_TSF = frame.along_time(frame.x_BKSF)[split.fitting_bars(frame)]
    features = FeatureScaler.fit(x_TSF, recipe.train.feature_scaling)
    y_NS, sigma_NS = (v_NS[split.train_N] for v_NS in (frame.label_NS, anchor_volatility(frame)))
    scaling = recipe.train.target_scaling
    return features, fit_targets(recipe.model, scaling, y_NS, sigma_NS, frame.horizon)


def warm_start_refusal(
    parent: ModelBundle, frame: WindowFrame, split: Split, recipe: Recipe
) -> str | None:
    """Say why a model's weights may not be the start of a training; None where they may.

    Its weights must fit, and its inputs and labels be scaled by the same kinds. And they must not
    have seen the ranges that will judge the result: neither validation nor test prices by
    training, no test price by its choice of checkpoint.
    """
    if parent.provenance.synthetic != frame.synthetic:
        return "it was trained on candles of another kind (simulated or real)"
    same_data = parent.serves(
        frame.symbols, frame.features, frame.interval.value, frame.lookback, frame.horizon
    )
    if not same_data or parent.config != recipe.model:
        return "it has another architecture, other inputs or another horizon"
    members = len(parent.member_weights)
    if members != recipe.train.seeds:
        return f"it has {members} members: expected {recipe.train.seeds}"
    train, kinds = recipe.train, (parent.features.kind, parent.targets.kind)
    expected = (train.feature_scaling, targets_kind(recipe.model, train.target_scaling))
    if kinds != expected:
        return f"its inputs and labels are scaled by {kinds}: expected {expected}"
    validation_from = int(frame.made_at_N[split.validation_N[0]])
    if parent.provenance.train_until > validation_from:
        return (
            f"its training reaches {iso_utc(parent.provenance.train_until)}, into the validation "
            f"range from {iso_utc(validation_from)}"
        )
    test_from = int(frame.made_at_N[split.test_N[0]])
    if parent.provenance.seen_until > test_from:
        return (
            f"its checkpoint was chosen on prices to {iso_utc(parent.provenance.seen_until)}, "
            f"into the test range from {iso_utc(test_from)}"
        )
    weights = (weight for each in parent.member_weights for weight in each.values())
    if not all(math.isfinite(weight.abs().max().item()) for weight in weights):
        return "its weights are not finite"
    return None


def _provenance(
    frame: WindowFrame, split: Split, recipe: Recipe, parent: Parent | None
) -> Provenance:
    # What the parent has seen, its weights bring along.
    inherited = [] if parent is None else [parent.bundle.provenance]
    train_until = int(frame.label_end_N[split.train_N[-1]])
    seen_until = int(frame.label_end_N[split.validation_N[-1]])
    return Provenance(
        recipe=recipe.name,
        fingerprint=recipe.fingerprint(frame.snapshot),
        snapshot=frame.snapshot,
        synthetic=frame.synthetic,
        train_from=int(frame.anchor_N[split.train_N[0]]),
        train_until=max([train_until, *(p.train_until for p in inherited)]),
        seen_until=max([seen_until, *(p.seen_until for p in inherited)]),
        parent=parent.version if parent is not None else None,
        trained_to=int(frame.made_at_N[split.train_N[-1]]),
        validated_from=int(frame.made_at_N[split.validation_N[0]]),
        validated_to=int(frame.made_at_N[split.validation_N[-1]]),
        tested_from=int(frame.made_at_N[split.test_N[0]]),
    )


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
