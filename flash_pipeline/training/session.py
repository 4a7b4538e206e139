"""One training from stored windows to a registered challenger, repeated only where it must be."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from flash_pipeline.errors import TrainingDiverged
from flash_pipeline.settings import Settings
from flash_pipeline.training.bundle import UnreadableBundle
from flash_pipeline.training.checkpoint import Checkpoint
from flash_pipeline.training.recipes import Recipe
from flash_pipeline.training.state import Epoch
from flash_pipeline.training.tracking import (
    CHALLENGER,
    CHAMPION,
    RIVAL_TAG,
    RegisteredModel,
    Registry,
    track_training,
)
from flash_pipeline.training.trainer import Parent, Training, train, warm_start_refusal
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Split


@dataclass(frozen=True)
class Session:
    """What became of a request to train."""

    model: RegisteredModel
    """The challenger."""
    training: Training | None
    """None where an equal training was found in the registry."""
    history: tuple[Epoch, ...]
    """One entry per epoch of the training that gave it."""
    story: str
    """In words: from where it started, or why nothing was trained."""
    url: str
    """Page of the MLflow run."""


def run_training(
    settings: Settings,
    frame: WindowFrame,
    split: Split,
    recipe: Recipe,
    *,
    tags: Mapping[str, str],
    force: bool = False,
    warm_start: bool = True,
) -> Session:
    """Train on the windows and register the result as challenger.

    A recipe that was trained on exactly this data already gives its registered version again: so
    a job that was killed after the training goes on from there, and a repeated one adds nothing.
    A version that cannot be read any more, of an older format, is trained anew.
    A training that was killed goes on from its checkpoint where it is asked for again on the same
    windows, by the same recipe, code and start: a step retried, not an hourly job that has cut new
    windows since.

    Parameters
    ----------
    tags : mapping
        Further tags of the MLflow run and of the version.
    force : bool
        Train although an equal training exists.
    warm_start : bool
        Start from the champion's weights where `warm_start_refusal` has nothing against it.

    Raises
    ------
    TrackingUnreachable
        If MLflow does not answer; nothing is trained then.
    TrainingDiverged, OutOfMemory, InvalidInput
        As for `train`; the run is marked failed with the message, nothing is registered.
    """
    registry = Registry(settings)
    fingerprint = recipe.fingerprint(frame.snapshot)
    known = None if force else registry.find(fingerprint)
    if known is not None and not isinstance(known.opened, UnreadableBundle):
        registry.point(CHALLENGER, known.version)
        history = tuple(registry.history(known))
        story = "trained before on exactly this data"
        return Session(known, None, history, story, registry.url(known))
    parent, story = _parent(registry, frame, split, recipe) if warm_start else (None, "cold start")
    champion = registry.at(CHAMPION)
    all_tags = {**tags, "start": story, RIVAL_TAG: champion.version if champion else ""}
    start = "random weights" if parent is None else f"version {parent.version}"
    checkpoint = Checkpoint(
        settings.checkpoints, fingerprint, start, recipe.train.checkpoint_minutes
    )
    checkpoint.remove_others()
    with track_training(registry, recipe, frame.snapshot, all_tags) as run, _kept(checkpoint):
        training = train(
            frame,
            split,
            recipe,
            parent=parent,
            on_epoch=run.log_epoch,
            progress=True,
            checkpoint=checkpoint,
        )
        model = run.register(training)
    return Session(model, training, training.history, story, registry.url(model))


@contextmanager
def _kept(checkpoint: Checkpoint) -> Iterator[None]:
    """Keep the checkpoint where the block fails, but for a training that would diverge again."""
    try:
        yield
    except TrainingDiverged:
        checkpoint.remove()
        raise
    checkpoint.remove()


def _parent(
    registry: Registry, frame: WindowFrame, split: Split, recipe: Recipe
) -> tuple[Parent | None, str]:
    champion = registry.at(CHAMPION)
    if champion is None:
        return None, "cold start: there is no champion"
    bundle = champion.opened
    if isinstance(bundle, UnreadableBundle):
        return None, f"cold start: champion {champion.version} cannot be read, {bundle.reason}"
    refusal = warm_start_refusal(bundle, frame, split, recipe)
    if refusal is not None:
        return None, f"cold start: champion {champion.version} cannot be used, {refusal}"
    return Parent(champion.version, bundle), f"warm start from version {champion.version}"
