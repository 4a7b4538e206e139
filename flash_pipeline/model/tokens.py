"""How the tokens of a grid lie in memory, and how a layer attends along one axis of them.

Shape letters: B batch rows, T moments, G cells of a moment, M tokens of all rows, C model width,
H heads, D head size, R pairs of a head's entries, Q queries.

    joint   all tokens of a row              one sequence of T x G
    cells   the tokens of one moment         T sequences of G
    time    one cell's tokens                G sequences of T

Where nothing is absent the tokens are a plain array and every axis is a view of it. Where something
is, the absent tokens are left out: what is there lies end to end, and the sequences of an axis have
lengths of their own (`model.packed`). Either way tokens are in the order of row, moment, cell.
"""

import abc
import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from flash_pipeline.model.attention import BackendChoice, attend
from flash_pipeline.model.config import AttentionName
from flash_pipeline.model.grid_config import AxisName
from flash_pipeline.model.packed import Pack, Sequences, attend_packed
from flash_pipeline.model.rotary import rotate


@dataclass(frozen=True)
class Reach:
    """Who sees whom in one layer, and by what it is computed."""

    axis: AxisName
    """Along what tokens attend."""
    causal: bool
    """Whether a token sees nothing later."""
    last: bool
    """Whether the queries are those of the last moment alone."""
    dropout_p: float
    """Probability of dropping a weight."""
    backend: AttentionName | BackendChoice
    """As for `attend`."""


class Tokens(abc.ABC):
    """The tokens of one pass."""

    @abc.abstractmethod
    def enter(self, x_BTGC: Tensor) -> Tensor:
        """Return x_MC of what is there."""

    @abc.abstractmethod
    def last(self, x_MC: Tensor) -> Tensor:
        """Return the tokens of the last moment, whatever axes follow M."""

    @abc.abstractmethod
    def leave(self, x_MC: Tensor) -> Tensor:
        """Return x_BTGC, zeros where a token is absent."""

    @abc.abstractmethod
    def leave_last(self, x_MC: Tensor) -> Tensor:
        """Return x_BGC of tokens of the last moment, zeros where one is absent."""

    @abc.abstractmethod
    def turn(self, x_MHD: Tensor, *, last: bool) -> Tensor:
        """Return queries or keys turned by their moments, all of them or those of the last."""

    @abc.abstractmethod
    def attend(self, q_QHD: Tensor, k_MHD: Tensor, v_MHD: Tensor, reach: Reach) -> Tensor:
        """Return o_QHD; along the cells, keys are those of the queries' moments alone."""


@dataclass(frozen=True)
class DenseTokens(Tokens):
    """Every token is there.

    Parameters
    ----------
    shape : tuple of int
        B, T, G.
    turn_2TR : Tensor
        Rotation of each moment.
    """

    shape: tuple[int, int, int]
    turn_2TR: Tensor

    def enter(self, x_BTGC: Tensor) -> Tensor:
        """Return x_MC."""
        return x_BTGC.flatten(0, 2)

    def last(self, x_MC: Tensor) -> Tensor:
        """Return the tokens of the last moment."""
        return _split(x_MC, self.shape)[:, -1].flatten(0, 1)

    def leave(self, x_MC: Tensor) -> Tensor:
        """Return x_BTGC."""
        return _split(x_MC, self.shape)

    def leave_last(self, x_MC: Tensor) -> Tensor:
        """Return x_BGC of tokens of the last moment."""
        return _split(x_MC, (self.shape[0], self.shape[2]))

    def turn(self, x_MHD: Tensor, *, last: bool) -> Tensor:
        """Return queries or keys turned; cells of a moment count as heads, which turn alike."""
        turn_2TR = self.turn_2TR[:, -1:] if last else self.turn_2TR
        x_BTKD = self._moments(x_MHD, 1 if last else self.shape[1]).flatten(2, 3)
        return rotate(x_BTKD, turn_2TR).view_as(x_MHD)

    def attend(self, q_QHD: Tensor, k_MHD: Tensor, v_MHD: Tensor, reach: Reach) -> Tensor:
        """Return o_QHD."""
        n_queries = 1 if reach.last else self.shape[1]
        n_keys = n_queries if reach.axis == "cells" else self.shape[1]
        o = attend(
            self._along(q_QHD, n_queries, reach.axis),
            self._along(k_MHD, n_keys, reach.axis),
            self._along(v_MHD, n_keys, reach.axis),
            causal=_is_causal(reach),
            dropout_p=reach.dropout_p,
            backend=reach.backend,
        )
        if reach.axis == "time":
            o = _split(o, (self.shape[0], self.shape[2])).transpose(1, 2)
        return o.reshape(q_QHD.shape)

    def _moments(self, x_MHD: Tensor, n_moments: int) -> Tensor:
        return _split(x_MHD, (self.shape[0], n_moments, self.shape[2]))

    def _along(self, x_MHD: Tensor, n_moments: int, axis: AxisName) -> Tensor:
        """Return the sequences of an axis as the rows of a batch."""
        x_BTGHD = self._moments(x_MHD, n_moments)
        if axis == "joint":
            return x_BTGHD.flatten(1, 2)
        if axis == "cells":
            return x_BTGHD.flatten(0, 1)
        return x_BTGHD.transpose(1, 2).flatten(0, 1)


@dataclass(frozen=True)
class PackedTokens(Tokens):
    """Some tokens are absent. Making one waits for the GPU, since lengths are needed here.

    What a layer asks of the mask is found out once, and serves all layers of the pass.

    Parameters
    ----------
    mask_BTG : Tensor of bool
        False where a token is absent.
    turn_2TR : Tensor
        Rotation of each moment.
    """

    mask_BTG: Tensor
    turn_2TR: Tensor

    def enter(self, x_BTGC: Tensor) -> Tensor:
        """Return x_MC of what is there."""
        return x_BTGC.flatten(0, 2)[self._place_M]

    def last(self, x_MC: Tensor) -> Tensor:
        """Return the tokens of the last moment."""
        return x_MC[self._last_Q]

    def leave(self, x_MC: Tensor) -> Tensor:
        """Return x_BTGC, zeros where a token is absent."""
        shape = tuple(self.mask_BTG.shape)
        return self._spread(x_MC, self._place_M, shape)

    def leave_last(self, x_MC: Tensor) -> Tensor:
        """Return x_BGC of tokens of the last moment, zeros where one is absent."""
        n_rows, _, n_cells = self.mask_BTG.shape
        return self._spread(x_MC, self._last_place_Q, (n_rows, n_cells))

    def turn(self, x_MHD: Tensor, *, last: bool) -> Tensor:
        """Return queries or keys turned by their moments."""
        moment_M = self._moment_M[self._last_Q] if last else self._moment_M
        return rotate(x_MHD[None], self.turn_2TR[:, moment_M])[0]

    def attend(self, q_QHD: Tensor, k_MHD: Tensor, v_MHD: Tensor, reach: Reach) -> Tensor:
        """Return o_QHD."""
        if reach.axis == "time":
            k_MHD, v_MHD = k_MHD[self._by_cell_M], v_MHD[self._by_cell_M]
            if not reach.last:  # tokens of one moment are in the order of their cells as they are
                q_QHD = q_QHD[self._by_cell_M]
        o_QHD = attend_packed(
            q_QHD,
            k_MHD,
            v_MHD,
            self._pack(reach.axis, last=reach.last),
            causal=_is_causal(reach),
            dropout_p=reach.dropout_p,
            backend=reach.backend,
        )
        if reach.axis == "time" and not reach.last:
            return torch.empty_like(o_QHD).index_copy(0, self._by_cell_M, o_QHD)
        return o_QHD

    @functools.cached_property
    def _place_M(self) -> Tensor:
        return self.mask_BTG.flatten().nonzero().flatten()

    @functools.cached_property
    def _moment_M(self) -> Tensor:
        _, n_moments, n_cells = self.mask_BTG.shape
        return self._place_M // n_cells % n_moments

    @functools.cached_property
    def _last_Q(self) -> Tensor:
        return (self._moment_M == self.mask_BTG.shape[1] - 1).nonzero().flatten()

    @functools.cached_property
    def _last_place_Q(self) -> Tensor:
        """Places of the last moment's tokens among all cells of all rows."""
        _, n_moments, n_cells = self.mask_BTG.shape
        place_Q = self._place_M[self._last_Q]
        return place_Q // (n_moments * n_cells) * n_cells + place_Q % n_cells

    @functools.cached_property
    def _by_cell_M(self) -> Tensor:
        """Places of the tokens in the order of row, cell, moment."""
        _, n_moments, n_cells = self.mask_BTG.shape
        row_M = self._place_M // (n_moments * n_cells)
        return ((row_M * n_cells + self._place_M % n_cells) * n_moments + self._moment_M).argsort()

    @functools.cached_property
    def _lengths(self) -> dict[tuple[AxisName, bool], list[int]]:
        """Tokens of each sequence of an axis, or of the last moment alone: fetched at once."""
        n_rows, n_moments, n_cells = self.mask_BTG.shape
        counts = [self.mask_BTG.sum(2), self.mask_BTG.sum(1), self.mask_BTG[:, -1].long()]
        told = torch.cat([count.flatten() for count in counts]).tolist()
        moments, rest = told[: n_rows * n_moments], told[n_rows * n_moments :]
        cells, last_cells = rest[: n_rows * n_cells], rest[n_rows * n_cells :]
        rows = [moments[i * n_moments :][:n_moments] for i in range(n_rows)]
        last = [row[-1] for row in rows]
        return {
            ("joint", False): [sum(row) for row in rows],
            ("cells", False): moments,
            ("time", False): cells,
            ("joint", True): last,
            ("cells", True): last,
            ("time", True): last_cells,
        }

    @functools.cached_property
    def _packs(self) -> dict[tuple[AxisName, bool], Pack]:
        return {}

    def _pack(self, axis: AxisName, *, last: bool) -> Pack:
        """Return the queries and keys of an axis: made once, for all layers along it."""
        if (axis, last) not in self._packs:
            device = self.mask_BTG.device
            queries = Sequences.of(self._lengths[axis, last], device)
            if last and axis != "cells":  # whose keys are those of all moments
                pack = Pack.of(queries, self._pack(axis, last=False).keys)
            else:
                pack = Pack.of(queries)
            self._packs[axis, last] = pack
        return self._packs[axis, last]

    def _spread(self, x_MC: Tensor, place_M: Tensor, shape: tuple[int, ...]) -> Tensor:
        whole = x_MC.new_zeros((torch.Size(shape).numel(), *x_MC.shape[1:]))
        return _split(whole.index_copy(0, place_M, x_MC), shape)


def _split(x_M: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a tensor with its first axis made several."""
    return x_M.view(*shape, *x_M.shape[1:])


def _is_causal(reach: Reach) -> bool:
    """Say whether the kernel must hide later tokens: a moment's cells are known together."""
    assert not (reach.causal and reach.last and reach.axis == "joint")
    return reach.causal and reach.axis != "cells" and not reach.last
