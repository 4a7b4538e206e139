"""The torch side: the scaled panel in memory, batches of windows cut by one index_select.

Shape letters: B blocks, K bars of a block, T bars of the panel, N windows of a batch, L bars of a
window, S symbols, F features, I = S * F inputs.

The panel lies in memory once. Windows follow one another bar by bar, so all of them are one view
[windows, L, I] whose first two strides are equal, and a batch is rows of it: nothing but the batch
itself is ever copied.

Dense labels are those of every bar of a window. They do not reach beyond the split's purge: the
label of bar t ends with bar t + horizon, so no bar of a window has a label that ends later than
its anchor's, the last, by which `chronological_split` judged the window.
"""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flash_pipeline.errors import InvalidInput
from flash_pipeline.market import iso_utc
from flash_pipeline.windows.blocks import WindowFrame

Batch = tuple[Tensor, Tensor | None, Tensor]
"""Inputs, mask and labels: see `WindowBatches.batch`."""

RESIDENT_SHARE = 0.25
"""Largest share of a GPU's free memory that the panel may take; the model needs the rest."""

_SLOTS = 2  # one batch is computed on while the next one is copied


class WindowBatches:
    """Cuts batches of windows out of the panel, on the device that holds it.

    Parameters
    ----------
    frame : WindowFrame
        The stored windows.
    x_BKSF : array
        The frame's features after scaling, float32, 0 where not valid.
    y_BKS : array
        The frame's labels after scaling, float32, NaN where unknown.
    device : torch.device
        Where the panel stays and batches are made.

    Raises
    ------
    InvalidInput
        If an input is NaN or infinite, or a label infinite: the message names symbol, feature
        and time.
    """

    def __init__(
        self,
        frame: WindowFrame,
        x_BKSF: npt.NDArray[np.float32],
        y_BKS: npt.NDArray[np.float32],
        device: torch.device,
    ) -> None:
        x_TSF, y_TS = frame.along_time(x_BKSF), frame.along_time(y_BKS)
        _require_numbers(frame, x_TSF, y_TS)
        valid_T = np.asarray(frame.along_time(frame.valid_BKS).any(axis=1))
        windows, lookback = len(frame.anchor_N), frame.lookback
        symbols, inputs = y_TS.shape[1], x_TSF.shape[1] * x_TSF.shape[2]
        # A bar that is masked has an output that means nothing, so nothing is asked of it.
        dense_TS = np.where(valid_T[:, None], y_TS, np.float32(np.nan))
        x_TI = torch.from_numpy(x_TSF.reshape(-1, inputs)).to(device)
        self._panel = x_TI
        self._valid_T = torch.from_numpy(valid_T).to(device)
        self._has_gaps = not bool(valid_T.all())
        self._buffers: dict[int, Tensor] = {}
        self._lookback = lookback
        self._x = x_TI.as_strided((windows, lookback, inputs), (inputs, inputs, 1))
        self._valid = self._valid_T.unfold(0, lookback, 1)
        self._y = torch.from_numpy(y_TS[lookback - 1 :]).to(device)
        self._dense = (
            torch.from_numpy(dense_TS)
            .to(device)
            .as_strided((windows, lookback, symbols), (symbols, symbols, 1))
        )

    @property
    def home(self) -> torch.device:
        """Where the panel is, and where the index of a batch belongs."""
        return self._y.device

    @property
    def device(self) -> torch.device:
        """Where batches are made."""
        return self._y.device

    @property
    def resident(self) -> bool:
        """Whether the panel lies where batches are made: a captured step can cut them itself."""
        return True

    @property
    def lookback(self) -> int:
        """Bars of a window."""
        return self._lookback

    @property
    def has_gaps(self) -> bool:
        """Whether some bar lacks every symbol, so that batches come with a mask."""
        return self._has_gaps

    def batch(self, index_N: Tensor, *, dense: bool = False) -> Batch:
        """Return the windows at the positions of an index.

        Parameters
        ----------
        index_N : torch.Tensor
            Positions of windows in the frame, int64, on `home`.
        dense : bool
            Whether the labels are those of every bar. None of them is known later than the
            window's own label: see the top of this module.

        Returns
        -------
        x : torch.Tensor
            [N, L, I] float32.
        valid : torch.Tensor or None
            [N, L] bool: some symbol is known at the bar. None where the panel has no gap at all,
            so that attention takes its fastest path.
        y : torch.Tensor
            [N, S] float32, NaN for unknown labels; [N, L, S] where dense, NaN for masked bars too.
        """
        return (
            self._x.index_select(0, index_N),
            self._valid.index_select(0, index_N) if self._has_gaps else None,
            (self._dense if dense else self._y).index_select(0, index_N),
        )

    def labels(self, index_N: Tensor) -> Tensor:
        """Return the labels [N, S] of windows, NaN where unknown, on `device`."""
        return self._y.index_select(0, index_N).to(self.device)

    def series(self, first: int, count: int) -> tuple[Tensor, Tensor | None]:
        """Return the bars that consecutive windows span, each once, on `device`.

        Parameters
        ----------
        first : int
            Position of the first window.
        count : int
            Windows, at least 1.

        Returns
        -------
        x : torch.Tensor
            [count + L - 1, I] float32.
        valid : torch.Tensor or None
            [count + L - 1] bool, as for `batch`.
        """
        bars = slice(first, first + count + self._lookback - 1)
        valid_T = self._valid_T[bars].to(self.device) if self._has_gaps else None
        return self._panel[bars].to(self.device), valid_T

    def batches(self, parts: Iterable[Tensor], *, dense: bool = False) -> Iterator[Batch]:
        """Yield the batch of each index; on a CPU one is overwritten as the next is asked for.

        Memory that is asked for anew comes from the system page by page, which for 256 windows of
        2,048 bars takes several times as long as the copy; a GPU's allocator keeps its own.
        """
        for part in parts:
            if self.device.type != "cpu":
                yield self.batch(part, dense=dense)
                continue
            yield (
                self._cut(self._x, part),
                self._cut(self._valid, part) if self._has_gaps else None,
                self._cut(self._dense if dense else self._y, part),
            )

    def _cut(self, source: Tensor, index_N: Tensor) -> Tensor:
        """Return rows of a source in the buffer that it has for them, the largest so far."""
        buffer = self._buffers.get(id(source))
        if buffer is None or len(buffer) < len(index_N):
            with torch.inference_mode(False):  # or no training could use it after an evaluation
                buffer = source.new_empty(len(index_N), *source.shape[1:])
            self._buffers[id(source)] = buffer
        return torch.index_select(source, 0, index_N, out=buffer[: len(index_N)])


class PrefetchedBatches(WindowBatches):
    """Cuts batches out of a panel in this machine's memory, for one too large for the GPU's.

    A batch is gathered into pinned memory and copied on a stream of its own. Nothing waits for
    the copy but the kernels that read it, so while the GPU is at work on a batch, the next one,
    asked for by a program that has not waited either, arrives. On a CPU it cuts them like
    `WindowBatches`.

    Parameters
    ----------
    frame, x_BKSF, y_BKS
        As for `WindowBatches`.
    device : torch.device
        Where batches are wanted.
    """

    def __init__(
        self,
        frame: WindowFrame,
        x_BKSF: npt.NDArray[np.float32],
        y_BKS: npt.NDArray[np.float32],
        device: torch.device,
    ) -> None:
        super().__init__(frame, x_BKSF, y_BKS, torch.device("cpu"))
        self._target = device
        slots = [_Slot(device) for _ in range(_SLOTS)] if device.type == "cuda" else []
        self._slots = itertools.cycle(slots) if slots else None

    @property
    def device(self) -> torch.device:
        """Where batches are made."""
        return self._target

    @property
    def resident(self) -> bool:
        """Whether the panel lies where batches are made."""
        return self._slots is None

    def batch(self, index_N: Tensor, *, dense: bool = False) -> Batch:
        """Return the windows at the positions of an index, as `WindowBatches.batch` does."""
        if self._slots is None:
            return super().batch(index_N, dense=dense)
        sources = [self._x, self._dense if dense else self._y]
        if self.has_gaps:
            sources.append(self._valid)
        x_NLI, y, *masks = next(self._slots).fetch(sources, index_N)
        return x_NLI, masks[0] if masks else None, y


class _Slot:
    """Pinned memory of one batch, and its copy to the GPU on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._pinned: list[Tensor] = []

    def fetch(self, sources: list[Tensor], index_N: Tensor) -> list[Tensor]:
        """Return rows of each source on the GPU, for use on the current stream."""
        self._copied.synchronize()  # the copy of two batches ago still reads this memory
        shapes = [(len(index_N), *source.shape[1:]) for source in sources]
        if [tuple(buffer.shape) for buffer in self._pinned] != shapes:
            self._pinned = [
                torch.empty(shape, dtype=source.dtype, pin_memory=True)
                for shape, source in zip(shapes, sources, strict=True)
            ]
        for source, buffer in zip(sources, self._pinned, strict=True):
            torch.index_select(source, 0, index_N, out=buffer)
        with torch.cuda.stream(self._stream):
            parts = [buffer.to(self._device, non_blocking=True) for buffer in self._pinned]
            self._copied.record()
        current = torch.cuda.current_stream(self._device)
        current.wait_event(self._copied)
        for part in parts:
            part.record_stream(current)  # its memory is not given away before this stream is done
        return parts


def window_batches(
    frame: WindowFrame,
    x_BKSF: npt.NDArray[np.float32],
    y_BKS: npt.NDArray[np.float32],
    device: torch.device,
    free_bytes: int | None = None,
) -> WindowBatches:
    """Return batches with the panel on the device where it fits there, else fetched from here.

    Parameters
    ----------
    frame, x_BKSF, y_BKS, device
        As for `WindowBatches`, errors too.
    free_bytes : int or None
        Free memory of the device; by default a GPU is asked. A CPU always holds its own panel.
    """
    if device.type == "cpu":
        return WindowBatches(frame, x_BKSF, y_BKS, device)
    if free_bytes is None:
        free_bytes, _ = torch.cuda.mem_get_info(device)
    bars = len(frame.start_time_T)
    per_bar = 4 * (x_BKSF.shape[2] * x_BKSF.shape[3] + 2 * x_BKSF.shape[2]) + 1
    fits = bars * per_bar <= RESIDENT_SHARE * free_bytes
    return (WindowBatches if fits else PrefetchedBatches)(frame, x_BKSF, y_BKS, device)


def _require_numbers(
    frame: WindowFrame, x_TSF: npt.NDArray[np.float32], y_TS: npt.NDArray[np.float32]
) -> None:
    """Refuse what would make a loss NaN, by the first such value in time."""
    bad_TSF = ~np.isfinite(x_TSF)
    if bad_TSF.any():
        t, s, f = np.argwhere(bad_TSF)[0]
        raise InvalidInput(
            f"the scaled {frame.features[f]} of {frame.symbols[s]} at "
            f"{iso_utc(int(frame.start_time_T[t]))} is {x_TSF[t, s, f]}: expected a finite number"
        )
    bad_TS = np.isinf(y_TS)
    if bad_TS.any():
        t, s = np.argwhere(bad_TS)[0]
        raise InvalidInput(
            f"the label of {frame.symbols[s]} at {iso_utc(int(frame.start_time_T[t]))} is "
            f"{y_TS[t, s]}: expected a finite number, or NaN where it is not known"
        )
