"""A transformer over a grid of tokens, and what the models built on it share.

Shape letters: B batch rows, T moments, G cells of a moment, M tokens of all rows, C model width, F
inputs of a token, H heads, D head size.

A prediction reads the tokens of the last moment, so in the last layer only their queries are asked,
and only they go on through the MLP: the same numbers for a fraction of that layer's work. Not where
it is joint and causal: there that layer runs in full.
"""

import abc
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model.attention import BackendChoice, choose_backend
from flash_pipeline.model.blocks import Block, draw_weights
from flash_pipeline.model.config import AttentionName
from flash_pipeline.model.grid_config import AxisName, GridConfig
from flash_pipeline.model.refusals import AttentionCall
from flash_pipeline.model.rotary import rotation
from flash_pipeline.model.sequence import SequenceModel, evaluating
from flash_pipeline.model.tokens import DenseTokens, PackedTokens, Reach, Tokens

EMBEDDING_STD = 0.2
"""Standard deviation of the initial embeddings of cells: about that of a token's projected inputs,
or cells could not be told apart for a long time."""

MLP_TOKENS = 32_768
"""Tokens that go through an MLP at a time where no gradient is kept, so that its wide hidden layer
never lies in memory for all of them."""


@dataclass(frozen=True)
class Layer:
    """What a layer is about to attend over, for whoever looks on."""

    axis: AxisName
    """Along what."""
    q_BGHD: Tensor
    """Queries of the last moment, turned; zeros where a token is absent."""
    k_BTGHD: Tensor
    """Keys, turned; zeros where a token is absent."""


class GridModel(SequenceModel):
    """A pre-norm transformer over moments x cells; subclasses name the cells and read the states.

    Rotary positions are those of moments: all cells of one share it, and only distances in time
    are known. What tells cells apart is their embedding. Inputs are standardised by `centre_GF`
    and `spread_GF`, which are stored with the weights (`fit_scale`).

    Parameters
    ----------
    config : GridConfig
        Architecture.
    """

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        self.config: GridConfig = config
        self.tokens_per_bar = config.n_cells
        shape = (config.n_cells, config.n_features)
        self.register_buffer("centre_GF", torch.zeros(shape))
        self.register_buffer("spread_GF", torch.ones(shape))
        self.project = nn.Linear(config.n_features, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model)

    @abc.abstractmethod
    def cells(self) -> Tensor:
        """Return the embeddings of cells, [G, C]."""

    @abc.abstractmethod
    def read(self, h_BGC: Tensor, mask_BG: Tensor | None) -> Tensor:
        """Return outputs of moments [..., G, C], of any leading axes; float32."""

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return outputs of the last moment; of every one under dense supervision.

        Parameters
        ----------
        x : Tensor
            [B, T, *cells, F], oldest moment first, in the parameters' dtype (float32). From 1 to
            `max_moments` moments: a shorter history is the same as one whose older tokens are all
            absent.
        valid : Tensor of bool, optional
            [B, T, *cells]. False where a token is absent: it is left out of every layer, and what
            it holds, NaN included, changes nothing. None: all are there, and the check for a mask
            that hides nothing (which waits for the GPU) is saved.

        Raises
        ------
        InvalidInput
            If a shape, dtype or length does not fit.
        AttentionUnsupported
            If the configured backend cannot run here.
        """
        return self._outputs(x, valid, every_bar=self.config.supervision == "dense")

    def last_outputs(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return outputs of the last moment of each row; arguments and errors as for `forward`."""
        return self._outputs(x, valid, every_bar=False)

    def run(
        self,
        x: Tensor,
        valid: Tensor | None,
        backend: AttentionName | BackendChoice,
        *,
        every_bar: bool,
    ) -> Tensor:
        """Return outputs without looking at the input first: what `torch.compile` is given.

        Parameters
        ----------
        x, valid : Tensor
            As for `forward`, checked.
        backend : str or BackendChoice
            As for `attend` or, with a mask, `attend_packed`.
        every_bar : bool
            Whether the outputs of all moments are wanted, or those of the last. Look-ahead: under
            the full span only the last moment's outputs are predictions.
        """
        x_BTGF, mask_BTG = self._flat(x, valid)
        tokens = self._tokens(x_BTGF, mask_BTG)
        h_MC = tokens.enter(self._embed(x_BTGF, mask_BTG))
        for i in range(len(self.blocks)):
            last = not every_bar and self._asks_last(i)
            if self.recompute and self.training:
                h_MC = checkpoint(self._layer, i, h_MC, tokens, backend, last, use_reentrant=False)
            else:
                h_MC = self._layer(i, h_MC, tokens, backend, last)
        if every_bar:
            return self._read(tokens.leave(h_MC), mask_BTG)
        if not self._asks_last(len(self.blocks) - 1):
            h_MC = tokens.last(h_MC)
        return self._read(tokens.leave_last(h_MC), None if mask_BTG is None else mask_BTG[:, -1])

    def layers(self, x: Tensor, valid: Tensor | None) -> Iterator[Layer]:
        """Run the blocks, and yield what each attends over before it runs; dropout off inside."""
        self.check_input(x, valid)
        with evaluating(self):
            valid = _needed(valid)
            x_BTGF, mask_BTG = self._flat(x, valid)
            backend = self.choose_attention(x.shape[1], valid is not None)
            tokens = self._tokens(x_BTGF, mask_BTG)
            h_MC = tokens.enter(self._embed(x_BTGF, mask_BTG))
            for i, axis in enumerate(self.config.axes):
                block = self._block(i)
                q_MHD, k_MHD, _ = self._project(block, block.attention_norm(h_MC), tokens, axis)
                yield Layer(axis, tokens.leave_last(tokens.last(q_MHD)), tokens.leave(k_MHD))
                if i + 1 < self.config.n_layers:
                    h_MC = self._layer(i, h_MC, tokens, backend, False)

    @torch.no_grad()
    def fit_scale(self, x: Tensor, valid: Tensor | None = None) -> None:
        """Set the standardisation of inputs to mean and deviation of each cell and feature.

        Parameters
        ----------
        x, valid : Tensor
            [..., *cells, F] and [..., *cells] with any leading axes, of the training range alone.
            Entries that are absent or not finite do not count; a cell without any takes the
            figures of all cells together, and what does not vary is left unscaled.
        """
        shape = (self.config.n_cells, self.config.n_features)
        x_NGF = x.reshape(-1, *shape).double()
        known_NGF = x_NGF.isfinite()
        if valid is not None:
            known_NGF = known_NGF & valid.reshape(-1, shape[0], 1)
        centre_GF, spread_GF = _moments(x_NGF, known_NGF, 0)
        all_F, all_spread_F = _moments(x_NGF.flatten(0, 1), known_NGF.flatten(0, 1), 0)
        seen_GF = known_NGF.any(0)
        self.get_buffer("centre_GF").copy_(centre_GF.where(seen_GF, all_F))
        self.get_buffer("spread_GF").copy_(spread_GF.where(seen_GF, all_spread_F))

    @property
    def attention_choice(self) -> BackendChoice:
        """Attention of the last pass; before the first, that of a whole window here."""
        return self._choice or self.choose_attention(self.config.max_moments, False)

    def choose_attention(self, length: int, has_mask: bool) -> BackendChoice:
        """Return the attention for the device, dtype and mode of the moment, autocast included.

        Parameters
        ----------
        length : int
            Moments.
        has_mask : bool
            Whether tokens are absent.
        """
        config, weight = self.config, self.project.weight
        device, dtype = weight.device, weight.dtype
        if torch.is_autocast_enabled(device.type):
            dtype = torch.get_autocast_dtype(device.type)
        joint = config.layout == "joint"
        call = AttentionCall(
            device,
            dtype,
            config.head_size,
            length * config.n_cells if joint else max(length, config.n_cells),
            causal=config.span == "causal",
            dropout=config.dropout > 0 and self.training,
            deterministic=torch.are_deterministic_algorithms_enabled(),
            packed=has_mask,
        )
        return choose_backend(call, config.attention)

    def check_input(self, x: Tensor, valid: Tensor | None) -> None:
        """Raise InvalidInput if a shape, dtype or length does not fit `forward`."""
        config, shape = self.config, tuple(x.shape)
        expected = (*self._cell_shape, config.n_features)
        if x.ndim != 2 + len(expected) or shape[2:] != expected:
            raise InvalidInput(
                f"input has the shape {shape}: expected [rows, moments, "
                f"{', '.join(map(str, expected))}]{self._advice(shape)}"
            )
        if not 1 <= shape[1] <= config.max_moments:
            raise InvalidInput(f"input has {shape[1]} moments: expected 1 to {config.max_moments}")
        dtype = self.project.weight.dtype
        if x.dtype != dtype:
            raise InvalidInput(f"input is {x.dtype}: expected the parameters' dtype, {dtype}")
        if valid is not None and (valid.dtype != torch.bool or valid.shape != shape[:-1]):
            raise InvalidInput(
                f"valid is {valid.dtype} of the shape {tuple(valid.shape)}: "
                f"expected torch.bool of the shape {shape[:-1]}"
            )

    @property
    def _cell_shape(self) -> tuple[int, ...]:
        """Axes of the input that name a cell."""
        return (self.config.n_cells,)

    @abc.abstractmethod
    def _advice(self, shape: tuple[int, ...]) -> str:
        """Return what helps where an input of another shape was given."""

    def _outputs(self, x: Tensor, valid: Tensor | None, *, every_bar: bool) -> Tensor:
        self.check_input(x, valid)
        valid = _needed(valid)
        self._choice = choice = self.choose_attention(x.shape[1], valid is not None)
        return self.run(x, valid, choice, every_bar=every_bar)

    def _asks_last(self, i: int) -> bool:
        """Say whether a layer needs the queries of the last moment alone, where only it is read.

        Not where later cells of its own moment are hidden from a token: that is the mask of a
        whole row, and kernels differ in how they align it with fewer queries.
        """
        joint_causal = self.config.layout == "joint" and self.config.span == "causal"
        return i == len(self.blocks) - 1 and not joint_causal

    def _flat(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return x_BTGF and mask_BTG, the cells' axes made one."""
        return x.flatten(2, -2), None if valid is None else valid.flatten(2)

    def _tokens(self, x_BTGF: Tensor, mask_BTG: Tensor | None) -> Tokens:
        n_rows, n_moments, n_cells = x_BTGF.shape[:3]
        turn_2TR = rotation(n_moments, self.config.head_size, x_BTGF.device)
        if mask_BTG is None:
            return DenseTokens((n_rows, n_moments, n_cells), turn_2TR)
        return PackedTokens(mask_BTG, turn_2TR)

    def _embed(self, x_BTGF: Tensor, mask_BTG: Tensor | None) -> Tensor:
        scaled_BTGF = (x_BTGF - self.get_buffer("centre_GF")) / self.get_buffer("spread_GF")
        if mask_BTG is not None:  # not by a product: 0 x NaN is NaN, here and in the gradients
            scaled_BTGF = scaled_BTGF.masked_fill(~mask_BTG[..., None], 0.0)
        h_BTGC: Tensor = self.project(scaled_BTGF)
        return h_BTGC + self.cells().to(h_BTGC.dtype)

    def _layer(
        self,
        i: int,
        h_MC: Tensor,
        tokens: Tokens,
        backend: AttentionName | BackendChoice,
        last: bool,
    ) -> Tensor:
        """Return the residual stream after a block: of all tokens, or of the last moment's."""
        block, config = self._block(i), self.config
        reach = Reach(
            config.axes[i],
            config.span == "causal",
            last,
            config.dropout if self.training else 0.0,
            backend,
        )
        normal_MC = block.attention_norm(h_MC)
        if last and reach.axis == "cells":
            normal_MC = tokens.last(normal_MC)
        project = self._project_last if last else self._project
        o_QHD = tokens.attend(*project(block, normal_MC, tokens, reach.axis), reach)
        gathered_QC = block.attention_dropout(block.attention.out(o_QHD.flatten(-2)))
        return _through_mlp(block, (tokens.last(h_MC) if last else h_MC) + gathered_QC)

    def _project(
        self, block: Block, normal_MC: Tensor, tokens: Tokens, axis: AxisName
    ) -> tuple[Tensor, Tensor, Tensor]:
        q_MHD, k_MHD, v_MHD = block.attention.project(normal_MC)
        if axis == "cells":  # of one moment, so that turning changes nothing
            return q_MHD, k_MHD, v_MHD
        return tokens.turn(q_MHD, last=False), tokens.turn(k_MHD, last=False), v_MHD

    def _project_last(
        self, block: Block, normal_MC: Tensor, tokens: Tokens, axis: AxisName
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries of the last moment alone, and keys and values of all it is given."""
        if axis == "cells":
            return block.attention.project(normal_MC)
        width, fused = self.config.d_model, block.attention.qkv
        heads = (-1, self.config.n_heads, self.config.head_size)
        q_QC = F.linear(tokens.last(normal_MC), fused.weight[:width], fused.bias[:width])
        kv_MC = F.linear(normal_MC, fused.weight[width:], fused.bias[width:])
        k_MC, v_MC = kv_MC.chunk(2, dim=-1)
        q_QHD = tokens.turn(q_QC.reshape(heads), last=True)
        return q_QHD, tokens.turn(k_MC.view(heads), last=False), v_MC.view(heads)

    def _read(self, h_BGC: Tensor, mask_BG: Tensor | None) -> Tensor:
        """Return outputs out of reach of autocast."""
        with torch.autocast(h_BGC.device.type, enabled=False):
            return self.read(h_BGC.to(self.norm.weight.dtype), mask_BG)

    def _block(self, i: int) -> Block:
        block = self.blocks[i]
        assert isinstance(block, Block)
        return block

    def _initialise(self) -> None:
        draw_weights(self)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=EMBEDDING_STD)


def _through_mlp(block: Block, h_MC: Tensor) -> Tensor:
    """Return the stream after the block's MLP, in parts and in place where no gradient is kept."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or len(h_MC) <= MLP_TOKENS:
        updated_MC: Tensor = h_MC + block.mlp(block.mlp_norm(h_MC))
        return updated_MC
    for part in torch.split(h_MC, MLP_TOKENS):
        part += block.mlp(block.mlp_norm(part))
    return h_MC


def _needed(valid: Tensor | None) -> Tensor | None:
    return None if valid is None or bool(valid.all()) else valid


def _moments(x: Tensor, known: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of the known entries along an axis; a deviation of 0 becomes 1."""
    count = known.sum(axis).clamp(min=1)
    mean = x.where(known, 0.0).sum(axis) / count
    square = (x - mean).where(known, 0.0).square().sum(axis) / count
    return mean, square.sqrt().where(square > 0, 1.0)
