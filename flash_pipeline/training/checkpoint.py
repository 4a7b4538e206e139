"""The file from which a killed training goes on.

One safetensors file: all tensors of a training's state, and in its header, as JSON, its counters,
what training it belongs to, and a checksum. No pickle is written or read. It is replaced by a
single rename, so that a process killed at any moment leaves the old file or the new one.
"""

import json
import logging
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from flash_pipeline.errors import TrainingDiverged
from flash_pipeline.storage.files import replacing_file

_FORMAT = "2"
_log = logging.getLogger(__name__)


class _Unusable(Exception):
    """A checkpoint cannot be resumed from; the message says why."""


class Resumable(Protocol):
    """A training at a step boundary, such as `TrainState`."""

    device: torch.device
    """Where it runs."""

    @property
    def place(self) -> str:
        """How far it is, in words."""

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the state by name, live: who writes into them restores it."""

    def random_states(self) -> dict[str, Tensor]:
        """Return copies of the states of all random generators."""

    def counters(self) -> dict[str, Any]:
        """Return what is no tensor, fit for JSON."""

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Take over a state: of `tensors` and `random_states`, of `counters`."""


class Checkpoint:
    """The checkpoint of one training.

    Parameters
    ----------
    folder : Path
        Where checkpoints lie; made when the first is written.
    fingerprint : str
        Name of the training, `Recipe.fingerprint`.
    start : str
        What the weights were at first, such as a parent's version: a training from other weights
        cannot go on from here.
    minutes : float
        Least time between two checkpoints, 0 or more; 0 for one after every epoch.
    clock : callable
        Seconds since any moment, never going back.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        start: str,
        minutes: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = folder / f"{fingerprint}.safetensors"
        self._folder, self._fingerprint, self._start = folder, fingerprint, start
        self._minutes = minutes
        self.of_several = False
        """Whether further trainings follow, so that the finished one is kept too."""
        self.resumed: str | None = None
        """Where the training went on from, in words; None where it began at the beginning."""
        self.seconds_before = 0.0
        """What the training took up to the checkpoint that it went on from, in other processes."""
        self._training = {"format": _FORMAT, "fingerprint": fingerprint, "start": start}
        self._seconds, self._clock = 60 * minutes, clock
        self._began = self._written = clock()

    def member(self, number: int, count: int) -> "Checkpoint":
        """Return the checkpoint of one of several trainings, as an ensemble's members are.

        That of a finished training stays till the last is done.

        Parameters
        ----------
        number : int
            From 0 on; the first one's is that of a model alone.
        count : int
            Trainings.
        """
        suffix = f".{number}" if number else ""
        own = Checkpoint(
            self._folder, self._fingerprint + suffix, self._start, self._minutes, self._clock
        )
        own.of_several = count > 1
        return own

    def due(self, *, epoch_over: bool) -> bool:
        """Say whether the time between two checkpoints has passed.

        Parameters
        ----------
        epoch_over : bool
            Whether an epoch has just ended. Within one, checkpoints without a time between them
            would follow every step, so there is none.
        """
        if self._seconds == 0:
            return epoch_over
        return self._clock() - self._written >= self._seconds

    def write(self, state: Resumable) -> None:
        """Write a state in the place of the one before.

        Where it cannot be written, as on a full disk, the training goes on without: that is
        logged.
        """
        live = {**state.tensors(), **state.random_states()}
        tensors = {name: tensor.detach().cpu() for name, tensor in live.items()}
        now = self._clock()
        seconds = self.seconds_before + now - self._began
        counters = json.dumps({**state.counters(), "seconds": seconds})
        header = {
            **self._identity(state),
            "counters": counters,
            "checksum": _checksum(counters, tensors),
        }
        try:
            with replacing_file(self.path) as temporary:
                save_file(tensors, temporary, metadata=header)
        except (OSError, SafetensorError) as error:
            _log.warning("no checkpoint could be written to %s: %s", self.path, error)
        self._written = now

    def resume(self, state: Resumable) -> None:
        """Bring a state to where the checkpoint was written; leave it where there is none.

        A checkpoint that is garbled, or of another training, is left aside with a logged reason.
        """
        if not self.path.exists():
            return
        try:
            tensors, counters = self._read(state)
        except _Unusable as reason:
            _log.warning("checkpoint %s is not used: %s", self.path.name, reason)
            return
        state.restore(tensors, counters)
        self.resumed, self.seconds_before = state.place, counters.get("seconds", 0.0)
        _log.info("training goes on from a checkpoint %s", self.resumed)

    def remove(self) -> None:
        """Delete the checkpoint, where there is one, and those of further members."""
        for path in self._folder.glob(f"{self._fingerprint}.*"):
            path.unlink()

    def remove_others(self) -> None:
        """Delete the checkpoints of other trainings, and what killed processes left of theirs."""
        for other in self._folder.glob("*.safetensors"):
            if not other.name.startswith(f"{self._fingerprint}."):
                other.unlink()

    def _read(self, state: Resumable) -> tuple[dict[str, Tensor], dict[str, Any]]:
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise _Unusable(f"it cannot be read: {error}") from error
        for key, value in self._identity(state).items():
            if header.get(key) != value:
                raise _Unusable(f"its {key} is {header.get(key)!r}: expected {value!r}")
        counters = header.get("counters", "")
        if header.get("checksum") != _checksum(counters, tensors):
            raise _Unusable("its checksum is not that of its content")
        _require_fit({**state.tensors(), **state.random_states()}, tensors)
        return tensors, json.loads(counters)

    def _identity(self, state: Resumable) -> dict[str, str]:
        return {**self._training, "device": state.device.type}


@contextmanager
def kept(checkpoint: Checkpoint) -> Iterator[None]:
    """Keep the checkpoint where the block fails, but for a training that would diverge again.

    Parameters
    ----------
    checkpoint : Checkpoint
        Removed with those of its members when the block, a training and its registration, is done.
    """
    try:
        yield
    except TrainingDiverged:
        checkpoint.remove()
        raise
    checkpoint.remove()


def _require_fit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse tensors of other names, shapes or dtypes: the code has changed since."""
    kinds, others = (
        {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        for tensors in (expected, found)
    )
    if kinds != others:
        names = sorted(name for name in kinds | others if kinds.get(name) != others.get(name))
        raise _Unusable(f"it does not fit the model: {', '.join(names[:3])}")


def _checksum(counters: str, tensors: Mapping[str, Tensor]) -> str:
    value = zlib.crc32(counters.encode())
    for name in sorted(tensors):
        data = tensors[name].contiguous().numpy().data
        value = zlib.crc32(data, zlib.crc32(name.encode(), value))
    return f"{value:08x}"
