"""What a part of the suite is given, and how it times a call.

Times are medians of at least 5 calls after warm-up, by CUDA events on a GPU and by the wall clock
elsewhere. A call too slow for that within the patience of the run is timed once, after one call
of warm-up, and so is a long one that has lost against a rival; its row says `runs: 1`.
"""

import gc
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from flash_pipeline.errors import AttentionUnsupported, OutOfMemory

Scale = Literal["full", "small", "tiny"]
"""Sizes: of a GPU, of any machine in about a minute, of a test in seconds."""

Row = dict[str, Any]
"""One line of a result: plain values, fit for JSON."""

Work = Callable[[], object]
"""What is timed: called again and again."""

T = TypeVar("T")

WARM_UP = 2
"""Calls before the timed ones, at least; the first may compile."""

LEAST_RUNS = 5
"""Timed calls, but for one that outlasts the patience."""

_MOST_RUNS = 40
_TARGET_S = {"full": 0.15, "small": 0.1, "tiny": 0.0}
_PATIENCE_S = {"full": 4.0, "small": 1.5, "tiny": 1.0}
OUT_OF_MEMORY = "out of memory"
REFUSED = "refused"
NOT_RUN = "not run"
"""How notes begin: the device's memory, what a backend cannot honour, no time."""

LEFT_OUT = "left out"
"""Of what is not measured by intention."""

LATE = f"{NOT_RUN}: the time for this part was used up"
"""The note of what a later run may still measure."""

_LOST_BY = 1.3  # a rival slower by this factor is timed once, where a call takes long
_LONG_S = 0.05


class DeviceLost(RuntimeError):
    """The GPU answers no more in this process, as after an illegal access; others may go on."""


@dataclass(frozen=True)
class Measured:
    """What a measurement gave; a `note` instead of figures where it could not be made."""

    ms: float | None = None
    """Median of the timed calls."""
    runs: int = 0
    """Timed calls."""
    gib: float | None = None
    """Peak of what was allocated, GiB; None without a GPU."""
    note: str = ""
    """Why there is no figure."""

    def row(self) -> Row:
        """Return the fields for a row, rounded to what the clock can tell."""
        rounded = None if self.ms is None else float(f"{self.ms:.4g}")
        gib = None if self.gib is None else round(self.gib, 4)
        return {"ms": rounded, "peak_gib": gib, "runs": self.runs, "note": self.note}


@dataclass
class Bench:
    """Where and how large a part runs, and until when."""

    device: torch.device
    """Where everything is measured."""
    scale: Scale
    """Which sizes."""
    windows: Path | None = None
    """Folder of stored windows to use in place of synthetic ones."""
    deadline: float = float("inf")
    """When the part must end, on `time.monotonic`; what is left is noted as not run."""
    memo: dict[Hashable, Any] = field(default_factory=dict)
    """Measurements that several parts show, made once."""
    results: list[dict[str, Any]] = field(default_factory=list)
    """What the parts run so far have found."""
    failed: list[str] = field(default_factory=list)
    """Names of parts that broke off, by a fault of their own."""
    stored: Sequence[Row] = ()
    """Rows of the part at hand that an earlier run has measured and this one is to keep."""

    @property
    def cuda(self) -> bool:
        """Whether a GPU is measured."""
        return self.device.type == "cuda"

    @property
    def late(self) -> bool:
        """Whether the part's time is used up."""
        return time.monotonic() > self.deadline

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of attention: that of autocast on a GPU."""
        return torch.bfloat16 if self.cuda else torch.float32

    def pick(self, full: T, small: T, tiny: T) -> T:
        """Return the value for this scale."""
        return {"full": full, "small": small, "tiny": tiny}[self.scale]

    def autocast(self, enabled: bool = True) -> AbstractContextManager[object]:
        """Return bf16 autocast on a GPU; elsewhere float32 stays."""
        if not (self.cuda and enabled):
            return nullcontext()
        return torch.autocast("cuda", dtype=torch.bfloat16)

    def once(self, key: Hashable, measure: Callable[[], T]) -> T:
        """Return what `measure` gave the first time this was asked for, and there was time."""
        if key in self.memo:
            value: T = self.memo[key]
            return value
        value = measure()
        if not self.late:
            self.memo[key] = value
        return value

    def known(self, head: Row) -> Row | None:
        """Return the stored row that has these values, where it is settled."""
        for row in self.stored:
            if settled(row) and head.items() <= row.items():
                return row
        return None

    def row(self, head: Row, measure: Callable[[], Row]) -> Row:
        """Return the row that a head names: as it is stored, else as it is measured now.

        Parameters
        ----------
        head : dict
            What tells the row from every other one of its part.
        measure : callable
            Returns the rest of it.
        """
        known = self.known(head)
        return head | measure() if known is None else known

    def attempt(
        self,
        make: Callable[[], Work],
        *,
        setup_counts: bool = True,
        rival_ms: float | None = None,
    ) -> Measured:
        """Build a work and time it; say why where that fails.

        Parameters
        ----------
        make : callable
            Builds what is measured and returns the call to time.
        setup_counts : bool
            Whether `peak_gib` counts what `make` allocated (a model with its optimizer) or only
            what the calls add to it (attention beyond its operands).
        rival_ms : float or None
            Best time so far of the same task: no precision is spent on one clearly slower.

        Raises
        ------
        DeviceLost
            If the GPU is not usable after the failure.
        """
        if self.late:
            return Measured(note=LATE)
        self.free()
        note = ""
        try:
            return self._measure(make, setup_counts, rival_ms)
        except Exception as error:  # noqa: BLE001  (a kernel library may raise anything at all)
            note = explain(error)
        # Out of the handler, so that the traceback no longer holds the tensors of its frames.
        self._require_device(note)
        self.free()
        return Measured(note=note)

    def captured(self, work: Work) -> Work:
        """Return the replay of a work as a CUDA graph; the work itself where there is no GPU.

        What it calls must neither wait for the device nor make new kernels after two calls.
        """
        if not self.cuda:
            return work
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                work()
        torch.cuda.current_stream(self.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph.replay

    def free(self) -> None:
        """Give unreferenced memory of a GPU back, that of compiled code and its graphs included."""
        if not self.cuda:
            return
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def _measure(
        self, make: Callable[[], Work], setup_counts: bool, rival_ms: float | None
    ) -> Measured:
        base = self._reset_peak()
        work = make()
        if not setup_counts:
            base = self._reset_peak()
        times = self._times(work, rival_ms)
        peak = None
        if self.cuda:
            peak = (torch.cuda.max_memory_allocated(self.device) - base) / 2**30
        return Measured(statistics.median(times) * 1e3, len(times), peak)

    def _reset_peak(self) -> int:
        if not self.cuda:
            return 0
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return torch.cuda.memory_allocated(self.device)

    def _times(self, work: Work, rival_ms: float | None) -> list[float]:
        """Return the seconds of each timed call."""
        for _ in range(WARM_UP):
            estimate = self._wall(work)
        lost = rival_ms is not None and estimate > max(_LONG_S, _LOST_BY * rival_ms / 1e3)
        if lost or estimate * LEAST_RUNS > _PATIENCE_S[self.scale]:
            return [estimate]
        target = _TARGET_S[self.scale]
        if not self.cuda:
            times: list[float] = []
            while len(times) < LEAST_RUNS or sum(times) < target:
                times.append(self._wall(work))
            return times
        runs = max(LEAST_RUNS, min(_MOST_RUNS, int(target / max(estimate, 1e-6))))
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(runs + 1)]
        marks[0].record()
        for mark in marks[1:]:
            work()
            mark.record()
        torch.cuda.synchronize(self.device)
        return [a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(marks)]

    def _wall(self, work: Work) -> float:
        self.synchronize()
        start = time.perf_counter()
        work()
        self.synchronize()
        return time.perf_counter() - start

    def _require_device(self, note: str) -> None:
        if not self.cuda:
            return
        try:
            torch.ones(1, device=self.device).add_(1).item()
        except RuntimeError as error:
            if OUT_OF_MEMORY not in str(error).lower():
                raise DeviceLost(note) from error


def settled(row: Row) -> bool:
    """Say whether a row needs no other run: it has figures, or the hardware has none to give."""
    note = str(row.get("note", ""))
    return not note or note == OUT_OF_MEMORY or note.startswith(REFUSED)


def explain(error: BaseException) -> str:
    """Return a short line on what went wrong, fit for a table."""
    text = " ".join(str(error).split())
    if isinstance(error, OutOfMemory) or OUT_OF_MEMORY in text.lower():
        return OUT_OF_MEMORY
    if isinstance(error, AttentionUnsupported):
        return f"{REFUSED}: {text.partition(', but ')[2] or text}"
    return f"{type(error).__name__}: {text[:160]}".removesuffix(": ")
