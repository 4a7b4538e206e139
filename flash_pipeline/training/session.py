"""One training from stored windows to a registered challenger, repeated only where it must be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flash_pipeline.errors import GpuUnavailable, OutOfMemory
from flash_pipeline.settings import Settings
from flash_pipeline.training.bundle import UnreadableBundle
from flash_pipeline.training.ceilings import (
    Machine,
    Placement,
    measure_machine,
    place_training,
    release_gpu,
)
from flash_pipeline.training.checkpoint import Checkpoint, kept
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

_TAG_LENGTH = 1000


@dataclass(frozen=True)
class Session:
    """What became of a request to train."""

    model: RegisteredModel
    """The challenger."""
    training: Training | None
    """None where an equal training was found in the registry, or none could be made now."""
    history: tuple[Epoch, ...]
    """One entry per epoch of the training that gave it."""
    story: str
    """In words: from where it started, or why nothing was trained."""
    url: str
    """Page of the MLflow run."""
    trouble: str = ""
    """What was wrong with the GPU, so that nothing or on the CPU was trained; empty: nothing."""


def run_training(
    settings: Settings,
    frame: WindowFrame,
    split: Split,
    recipe: Recipe,
    *,
    tags: Mapping[str, str],
    force: bool = False,
    warm_start: bool = True,
    on_gpu_trouble: str | None = None,
    measure: Callable[[Path], Machine] = measure_machine,
) -> Session:
    """Train on the windows and register the result as challenger.

    A recipe that was trained on exactly this data already gives its registered version again: so
    a job that was killed after the training goes on from there, and a repeated one adds nothing.
    A version that cannot be read any more, of an older format, is trained anew.
    A training that was killed goes on from its checkpoint where it is asked for again on the same
    windows, by the same recipe, code and start: a step retried, not an hourly job that has cut new
    windows since.

    Room for it is made sure of before: see `place_training`. A GPU whose memory runs out all the
    same ends its run as failed, and what `on_gpu_trouble` says is done as if it had been seen
    before: a training anew on the CPU, in a run of its own, or none.

    Parameters
    ----------
    tags : mapping
        Further tags of the MLflow run and of the version.
    force : bool
        Train although an equal training exists.
    warm_start : bool
        Start from the champion's weights where `warm_start_refusal` has nothing against it.
    on_gpu_trouble : str or None
        `fail`, `cpu` or `skip` in place of the setting. What is left out gives the challenger of
        before, untouched.
    measure : callable
        What is free on this machine; injected by tests.

    Raises
    ------
    TrackingUnreachable
        If MLflow does not answer; nothing is trained then.
    NotEnoughRoom, GpuUnavailable
        As for `place_training`, before anything is written; or if a training is to be left out
        and there is no challenger of before.
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
    policy = on_gpu_trouble or settings.on_gpu_trouble
    find_place = partial(
        place_training, settings, frame, recipe, on_gpu_trouble=policy, measure=measure
    )
    begin = partial(_train, registry, frame, split, recipe, tags=tags, warm_start=warm_start)
    place = find_place()
    try:
        return begin(place)
    except OutOfMemory as error:
        if policy == "fail" or place.device is None or place.device.type == "cpu":
            raise
        trouble = str(error)  # the error itself holds on to what lies on the GPU
    release_gpu()
    return begin(find_place(trouble=trouble))


def _train(
    registry: Registry,
    frame: WindowFrame,
    split: Split,
    recipe: Recipe,
    place: Placement,
    *,
    tags: Mapping[str, str],
    warm_start: bool,
) -> Session:
    if place.device is None:
        return _left_out(registry, place.trouble)
    parent, story = _parent(registry, frame, split, recipe) if warm_start else (None, "cold start")
    champion = registry.at(CHAMPION)
    all_tags = {**tags, "start": story, RIVAL_TAG: champion.version if champion else ""}
    if place.trouble:
        all_tags["gpu_trouble"] = place.trouble[:_TAG_LENGTH]
    start = "random weights" if parent is None else f"version {parent.version}"
    checkpoint = Checkpoint(
        registry.settings.checkpoints,
        recipe.fingerprint(frame.snapshot),
        start,
        recipe.train.checkpoint_minutes,
    )
    checkpoint.remove_others()
    with track_training(registry, recipe, frame.snapshot, all_tags) as run, kept(checkpoint):
        run.log_data(frame, split)
        training = train(
            frame,
            split,
            recipe,
            parent=parent,
            device=place.device,
            on_epoch=run.log_epoch,
            progress=True,
            checkpoint=checkpoint,
        )
        model = run.register(training)
    told = f"{story}, on the CPU: {place.trouble}" if place.trouble else story
    return Session(model, training, training.history, told, registry.url(model), place.trouble)


def _left_out(registry: Registry, trouble: str) -> Session:
    """Return the challenger of before, with why it is still the same.

    Raises
    ------
    GpuUnavailable
        If there is none.
    """
    challenger = registry.at(CHALLENGER)
    if challenger is None:
        raise GpuUnavailable(
            f"the training cannot be left out, since there is no earlier model: {trouble}"
        )
    story = f"left out: {trouble}"
    history = tuple(registry.history(challenger))
    return Session(challenger, None, history, story, registry.url(challenger), trouble)


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
