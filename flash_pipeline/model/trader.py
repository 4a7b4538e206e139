"""The model: a window of bars in, one output per symbol out.

Shape letters: B batch rows, T bars of the input, P padded bars, I inputs per bar (symbols x
features), C model width, S symbols.

P is T but under the full span where bars are masked: there it is T rounded up to a multiple of 64,
filled on the left, since the kernels that take a mask want an aligned one. Without a mask nothing
is padded, or the padding itself would need a mask, and the fastest kernels take none.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model.attention import BackendChoice, choose_backend
from flash_pipeline.model.blocks import Block, Context, draw_weights
from flash_pipeline.model.config import AttentionName, ModelConfig
from flash_pipeline.model.heads import HEAD_GAIN, HEADS, Head
from flash_pipeline.model.refusals import AttentionCall
from flash_pipeline.model.rotary import rotation
from flash_pipeline.model.sequence import SequenceModel, evaluating

LENGTH_MULTIPLE = 64
"""Masked lengths are padded to a multiple of this under the full span: aligned masks."""

POSITION_STD = 0.02
"""Standard deviation of the initial positions."""


class FlashAttentionTrader(SequenceModel):
    """A pre-norm transformer that reads a window of bars.

    With the full span every bar sees the whole window, which ends at the bar where the prediction
    is made, so every bar of it is past. With a causal or sliding span a bar sees itself and
    earlier ones only, so the output of every bar is a prediction made there.

    Learned positions count from the right end: the last bar always has the same position, and
    more history to the left moves none. Rotary ones know distances alone. The parameters stay
    float32; mixed precision is the caller's, by `torch.autocast`, which the flash kernels need
    (they take float16 and bfloat16 only).

    Parameters
    ----------
    config : ModelConfig
        Architecture.

    Examples
    --------
    >>> model = FlashAttentionTrader(ModelConfig(2, 3, d_model=8, n_heads=2, n_layers=1, d_ff=16))
    >>> tuple(model(torch.zeros(4, 10, 6)).shape)
    (4, 2)
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config: ModelConfig = config
        self.project = nn.Linear(config.input_dim, config.d_model)
        learned = config.max_seq_len if config.positions == "learned" else 0
        self.positions = nn.Parameter(torch.empty(learned, config.d_model)) if learned else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.head: Head = HEADS[config.head](config)
        self._initialise()

    def forward(self, x_BTI: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Return the head's outputs, for the last valid bar of each row or for every bar.

        Parameters
        ----------
        x_BTI : Tensor
            Standardised inputs, symbol by symbol (entry `s * n_features + f`), oldest bar first,
            in the parameters' dtype (float32). Unknown entries of valid bars are zeroed by the
            caller. At least 1 bar; with learned positions at most `max_seq_len`.
        valid_BT : Tensor of bool, optional
            False for a bar that is absent altogether, such as left padding; what it holds,
            NaN included, changes nothing. None: every bar counts, and the check for a mask that
            hides nothing (which waits for the GPU) is saved.

        Returns
        -------
        outputs_BS : Tensor
            [B, S], or [B, T, S] under dense supervision; a quantile head has one more axis.
            Forward log returns (`regression`, `quantile`), logits (`direction`) or weights
            (`allocation`), in the parameters' dtype. A bar that is not valid, or a row without a
            valid bar, gets zeros: no return, an even chance, no position.

        Raises
        ------
        InvalidInput
            If a shape, dtype or length does not fit.
        AttentionUnsupported
            If the configured backend cannot run here.
        """
        self.check_input(x_BTI, valid_BT)
        valid_BT = needed_mask(valid_BT)
        self._choice = choice = self.choose_attention(x_BTI.shape[1], valid_BT is not None)
        dense = self.config.supervision == "dense"
        return self.run(x_BTI, valid_BT, choice, every_bar=dense)

    def run(
        self,
        x_BTI: Tensor,
        valid_BT: Tensor | None,
        backend: AttentionName | BackendChoice,
        *,
        every_bar: bool,
    ) -> Tensor:
        """Return outputs without looking at the input first: what `torch.compile` is given.

        Parameters
        ----------
        x_BTI, valid_BT : Tensor
            As for `forward`, checked; a mask that hides something, or None.
        backend : str or BackendChoice
            As for `attend`.
        every_bar : bool
            Whether the outputs of all bars are wanted, [B, T, S], or those of the last valid one.
            Look-ahead: under the full span only the last bar's output is a prediction.
        """
        h_BPC, mask_BP = self.embed(x_BTI, valid_BT)
        context = self.context(h_BPC, mask_BP, backend)
        for block in self.blocks:
            if self.recompute and self.training:
                h_BPC = checkpoint(block, h_BPC, context, use_reentrant=False)
            else:
                h_BPC = block(h_BPC, context)
        if every_bar:
            return self._read(h_BPC[:, h_BPC.shape[1] - x_BTI.shape[1] :], valid_BT)
        if mask_BP is None:
            return self._read(h_BPC[:, -1], None)
        last_B = last_valid(mask_BP)
        rows_B = torch.arange(len(last_B), device=last_B.device)
        return self._read(h_BPC[rows_B, last_B], mask_BP.any(1))

    @torch.no_grad()
    def predict(self, x_BTI: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Return predictions_BS in the head's unit, without dropout and without gradients.

        Arguments and errors as for `forward`. `regression`: forward log return; `direction`:
        probability of a rise; `allocation`: weight in [-1, 1].
        """
        with evaluating(self):
            return self.head.predict(self.last_outputs(x_BTI, valid_BT))

    def last_outputs(self, x_BTI: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Return outputs of the last valid bar of each row, whatever the supervision.

        Arguments and errors as for `forward`.
        """
        self.check_input(x_BTI, valid_BT)
        valid_BT = needed_mask(valid_BT)
        self._choice = choice = self.choose_attention(x_BTI.shape[1], valid_BT is not None)
        return self.run(x_BTI, valid_BT, choice, every_bar=False)

    def loss(self, outputs_BS: Tensor, targets_BS: Tensor) -> Tensor:
        """Return the head's loss, a scalar: see `Head.loss`."""
        return self.head.loss(outputs_BS, targets_BS)

    @property
    def attention_choice(self) -> BackendChoice:
        """Attention of the last forward pass; before the first, that of a full window here."""
        if self._choice is not None:
            return self._choice
        return self.choose_attention(self.config.max_seq_len, has_mask=False)

    def choose_attention(self, length: int, has_mask: bool) -> BackendChoice:
        """Return the attention for the device, dtype and mode of the moment, autocast included.

        Parameters
        ----------
        length : int
            Bars, before padding or after it.
        has_mask : bool
            Whether bars are masked.
        """
        return choose_backend(self.attention_call(length, has_mask), self.config.attention)

    def attention_call(self, length: int, has_mask: bool) -> AttentionCall:
        """Return what every layer asks of its attention; arguments as for `choose_attention`."""
        weight, config = self.project.weight, self.config
        device, dtype = weight.device, weight.dtype
        if torch.is_autocast_enabled(device.type):
            dtype = torch.get_autocast_dtype(device.type)
        return AttentionCall(
            device,
            dtype,
            config.head_size,
            length + self._padding(length, masked=has_mask),
            has_mask,
            causal=config.span != "full",
            window=config.window,
            dropout=config.dropout > 0 and self.training,
            deterministic=torch.are_deterministic_algorithms_enabled(),
        )

    def embed(self, x_BTI: Tensor, valid_BT: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the residual stream before the first block, and its mask.

        Returns
        -------
        h_BPC : Tensor
            Projected inputs, plus learned positions; padded on the left where the full span is
            masked.
        mask_BP : Tensor of bool or None
            False for padding and absent bars; None where nothing is masked, so that the kernels
            take their fast path.
        """
        n_bars = x_BTI.shape[1]
        padding = self._padding(n_bars, masked=valid_BT is not None)
        mask_BP = None if valid_BT is None else F.pad(valid_BT, (padding, 0), value=False)
        if valid_BT is not None:  # not by a product: 0 x NaN is NaN, here and in the gradients
            x_BTI = x_BTI.masked_fill(~valid_BT[:, :, None], 0.0)
        h_BPC = self.project(F.pad(x_BTI, (0, 0, padding, 0)) if padding else x_BTI)
        if self.positions is not None:
            h_BPC = h_BPC + F.pad(self.positions[-n_bars:], (0, 0, padding, 0))
        return h_BPC, mask_BP

    def context(
        self, h_BPC: Tensor, mask_BP: Tensor | None, backend: AttentionName | BackendChoice
    ) -> Context:
        """Return what the blocks are given beside the embedded stream."""
        if self.config.positions == "learned":
            return Context(mask_BP, None, backend)
        turn_2TR = rotation(h_BPC.shape[1], self.config.head_size, h_BPC.device)
        return Context(mask_BP, turn_2TR, backend)

    def _padding(self, n_bars: int, *, masked: bool) -> int:
        return -n_bars % LENGTH_MULTIPLE if masked and self.config.span == "full" else 0

    def _read(self, h_BC: Tensor, valid_B: Tensor | None) -> Tensor:
        """Return outputs_BS of states [..., C], out of reach of autocast; zeros where not valid."""
        with torch.autocast(h_BC.device.type, enabled=False):
            outputs_BS: Tensor = self.head(self.norm(h_BC.to(self.norm.weight.dtype)))
        if valid_B is None:
            return outputs_BS
        more = (1,) * (outputs_BS.ndim - valid_B.ndim)
        return outputs_BS.masked_fill(~valid_B.view(*valid_B.shape, *more), 0.0)

    def check_input(self, x_BTI: Tensor, valid_BT: Tensor | None) -> None:
        """Raise InvalidInput if a shape, dtype or length does not fit `forward`."""
        config, shape = self.config, tuple(x_BTI.shape)
        if x_BTI.ndim != 3 or shape[2] != config.input_dim:
            raise InvalidInput(
                f"input has the shape {shape}: expected [rows, bars, {config.input_dim}]"
            )
        if shape[1] < 1 or (self.positions is not None and shape[1] > config.max_seq_len):
            raise InvalidInput(
                f"input has {shape[1]} bars: expected 1 to max_seq_len, {config.max_seq_len}"
            )
        dtype = self.project.weight.dtype
        if x_BTI.dtype != dtype:
            raise InvalidInput(f"input is {x_BTI.dtype}: expected the parameters' dtype, {dtype}")
        if valid_BT is not None and (valid_BT.dtype != torch.bool or valid_BT.shape != shape[:2]):
            raise InvalidInput(
                f"valid is {valid_BT.dtype} of the shape {tuple(valid_BT.shape)}: "
                f"expected torch.bool of the shape {shape[:2]}"
            )

    def _initialise(self) -> None:
        """Draw Xavier-uniform weights (Glorot and Bengio 2010), zero biases, a small head."""
        if self.positions is not None:
            nn.init.normal_(self.positions, std=POSITION_STD)
        draw_weights(self)
        nn.init.xavier_uniform_(self.head.linear.weight, gain=HEAD_GAIN)


def last_valid(mask_BT: Tensor) -> Tensor:
    """Return last_B, the index of the last True of each row; 0 where there is none."""
    bars_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    return (mask_BT * bars_T).amax(1)


def needed_mask(valid_BT: Tensor | None) -> Tensor | None:
    """Return the mask, or None where it hides nothing."""
    return None if valid_BT is None or bool(valid_BT.all()) else valid_BT
