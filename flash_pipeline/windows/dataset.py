"""The torch side: scaled blocks resident in memory, batches cut by one index_select."""

import numpy as np
import numpy.typing as npt
import torch

from flash_pipeline.windows.blocks import WindowFrame


class WindowBatches:
    """Cuts batches of windows out of the blocks, on the device that holds them.

    Shape letters: N windows of a batch, L bars, S symbols, I = S * F inputs.

    Parameters
    ----------
    frame : WindowFrame
        The stored windows.
    x_BKSF : array
        The frame's features after scaling, float32, 0 where not valid.
    y_BKS : array
        The frame's labels after scaling, float32, NaN where unknown.
    device : torch.device
        Where the blocks stay and batches are made.
    """

    def __init__(
        self,
        frame: WindowFrame,
        x_BKSF: npt.NDArray[np.float32],
        y_BKS: npt.NDArray[np.float32],
        device: torch.device,
    ) -> None:
        blocks, width, symbols, features = x_BKSF.shape
        inputs = symbols * features
        flat = torch.from_numpy(np.ascontiguousarray(x_BKSF)).to(device).view(-1, inputs)
        valid_BK = np.ascontiguousarray(frame.valid_BKS.any(axis=2))
        self._has_gaps = not frame.along_time(valid_BK).all()
        valid = torch.from_numpy(valid_BK).to(device)
        starts = blocks * width - frame.lookback + 1
        # Every window is a contiguous slice of a block, so all windows are one strided view.
        self._x = flat.as_strided((starts, frame.lookback, inputs), (inputs, inputs, 1))
        self._valid = valid.view(-1).as_strided((starts, frame.lookback), (1, 1))
        self._y = torch.from_numpy(np.ascontiguousarray(y_BKS)).to(device).view(-1, symbols)
        self._lookback = frame.lookback
        start_N = frame.block_N.astype(np.int64) * width + frame.offset_N
        self._start_N = torch.from_numpy(start_N).to(device)

    @property
    def device(self) -> torch.device:
        """Where the blocks are."""
        return self._y.device

    def batch(
        self, index_N: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """Return the windows at the positions of an index.

        Parameters
        ----------
        index_N : torch.Tensor
            Positions of windows in the frame, int64, on the batches' device.

        Returns
        -------
        x : torch.Tensor
            [N, L, I] float32.
        valid : torch.Tensor or None
            [N, L] bool: some symbol is known at the bar. None where the panel has no gap at all,
            so that attention takes its fastest path.
        y : torch.Tensor
            [N, S] float32, NaN for unknown labels.
        """
        start_N = self._start_N[index_N]
        return (
            self._x.index_select(0, start_N),
            self._valid.index_select(0, start_N) if self._has_gaps else None,
            self._y.index_select(0, start_N + self._lookback - 1),
        )
