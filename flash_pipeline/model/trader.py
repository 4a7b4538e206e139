"""The model: a window of bars in, one output per symbol out.

Shape letters: B batch rows, T bars of the input, P padded bars (T rounded up to a multiple of
64), I inputs per bar (symbols x features), C model width, S symbols.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model.attention import BackendChoice, choose_backend
from flash_pipeline.model.blocks import Block, SelfAttention
from flash_pipeline.model.config import ModelConfig
from flash_pipeline.model.heads import HEAD_GAIN, HEADS, Head

LENGTH_MULTIPLE = 64
"""Lengths are padded to a multiple of this: whole tiles, and aligned masks, for the kernels."""

POSITION_STD = 0.02
"""Standard deviation of the initial positions."""


class FlashAttentionTrader(nn.Module):
    """A pre-norm transformer encoder that reads a window of bars at its last valid bar.

    Attention is full: a window ends at the bar where the prediction is made, so every bar of it
    is past. Positions count from the right end: the last bar always has the same position, and
    more history to the left moves none. The parameters stay float32; mixed precision is the
    caller's, by `torch.autocast`, which flash-attn needs (it takes float16 and bfloat16 only).

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
        self.config = config
        self.project = nn.Linear(config.input_dim, config.d_model)
        self.positions = nn.Parameter(torch.empty(config.max_seq_len, config.d_model))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.head: Head = HEADS[config.head](config.d_model, config.n_outputs)
        self._choice: BackendChoice | None = None
        self._initialise()

    def forward(self, x_BTI: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Return the head's outputs for the last valid bar of each row.

        Parameters
        ----------
        x_BTI : Tensor
            Standardised inputs, symbol by symbol (entry `s * n_features + f`), oldest bar first,
            in the parameters' dtype (float32). Unknown entries of valid bars are zeroed by the
            caller. At least 1 and at most `max_seq_len` bars.
        valid_BT : Tensor of bool, optional
            False for a bar that is absent altogether, such as left padding; what it holds,
            NaN included, changes nothing. None: every bar counts, and the check for a mask that
            hides nothing (which waits for the GPU) is saved.

        Returns
        -------
        outputs_BS : Tensor
            Forward log returns (`regression`), logits (`direction`) or weights (`allocation`),
            in the parameters' dtype. A row without a valid bar gets zeros: no return, an even
            chance, no position.

        Raises
        ------
        InvalidInput
            If a shape, dtype or length does not fit.
        AttentionUnsupported
            If the configured backend cannot run here.
        """
        h_BPC, mask_BP = self.embed(x_BTI, valid_BT)
        self._choice = self.choose_attention(mask_BP)
        for block in self.blocks:
            h_BPC = block(h_BPC, mask_BP, self._choice.name)
        return self.read(h_BPC, mask_BP)

    @torch.no_grad()
    def predict(self, x_BTI: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Return predictions_BS in the head's unit, without dropout and without gradients.

        Arguments and errors as for `forward`. `regression`: forward log return; `direction`:
        probability of a rise; `allocation`: weight in [-1, 1].
        """
        with evaluating(self):
            return self.head.predict(self(x_BTI, valid_BT))

    def loss(self, outputs_BS: Tensor, targets_BS: Tensor) -> Tensor:
        """Return the head's loss, a scalar: see `Head.loss`."""
        return self.head.loss(outputs_BS, targets_BS)

    @property
    def n_parameters(self) -> int:
        """Number of trainable values."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    @property
    def attention_choice(self) -> BackendChoice:
        """Attention of the last forward pass; before the first, that of an unmasked one here."""
        return self._choice if self._choice is not None else self.choose_attention(None)

    def choose_attention(self, mask_BP: Tensor | None) -> BackendChoice:
        """Return the attention for the device and dtype of the moment, autocast included."""
        device, dtype = self.positions.device, self.positions.dtype
        if torch.is_autocast_enabled(device.type):
            dtype = torch.get_autocast_dtype(device.type)
        config = self.config
        return choose_backend(
            device, dtype, config.head_size, mask_BP is not None, config.attention
        )

    def embed(self, x_BTI: Tensor, valid_BT: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the padded residual stream before the first block, and its mask.

        Returns
        -------
        h_BPC : Tensor
            Projected inputs plus positions, padded on the left.
        mask_BP : Tensor of bool or None
            False for padding and absent bars; None where nothing is masked, so that the kernels
            take their fast path.
        """
        self.check_input(x_BTI, valid_BT)
        n_bars = x_BTI.shape[1]
        padding = -n_bars % LENGTH_MULTIPLE
        mask_BP = _pad_mask(x_BTI, valid_BT, padding)
        if valid_BT is not None:  # not by a product: 0 x NaN is NaN, here and in the gradients
            x_BTI = x_BTI.masked_fill(~valid_BT[:, :, None], 0.0)
        x_BPI = F.pad(x_BTI, (0, 0, padding, 0))
        positions_PC = F.pad(self.positions[-n_bars:], (0, 0, padding, 0))
        return self.project(x_BPI) + positions_PC, mask_BP

    def read(self, h_BPC: Tensor, mask_BP: Tensor | None) -> Tensor:
        """Return outputs_BS of the last valid bar of each row, out of reach of autocast."""
        if mask_BP is None:
            h_BC = h_BPC[:, -1]
        else:
            last_B = last_valid(mask_BP)
            h_BC = h_BPC[torch.arange(len(last_B), device=last_B.device), last_B]
        with torch.autocast(h_BC.device.type, enabled=False):
            outputs_BS: Tensor = self.head(self.norm(h_BC.to(self.positions.dtype)))
        if mask_BP is None:
            return outputs_BS
        return outputs_BS.masked_fill(~mask_BP.any(1, keepdim=True), 0.0)

    def check_input(self, x_BTI: Tensor, valid_BT: Tensor | None) -> None:
        """Raise InvalidInput if a shape, dtype or length does not fit `forward`."""
        config, shape = self.config, tuple(x_BTI.shape)
        if x_BTI.ndim != 3 or shape[2] != config.input_dim:
            raise InvalidInput(
                f"input has the shape {shape}: expected [rows, bars, {config.input_dim}]"
            )
        if not 1 <= shape[1] <= config.max_seq_len:
            raise InvalidInput(
                f"input has {shape[1]} bars: expected 1 to max_seq_len, {config.max_seq_len}"
            )
        if x_BTI.dtype != self.positions.dtype:
            raise InvalidInput(
                f"input is {x_BTI.dtype}: expected the parameters' dtype, {self.positions.dtype}"
            )
        if valid_BT is not None and (valid_BT.dtype != torch.bool or valid_BT.shape != shape[:2]):
            raise InvalidInput(
                f"valid is {valid_BT.dtype} of the shape {tuple(valid_BT.shape)}: "
                f"expected torch.bool of the shape {shape[:2]}"
            )

    def _initialise(self) -> None:
        """Draw Xavier-uniform weights (Glorot and Bengio 2010), zero biases, a small head."""
        nn.init.normal_(self.positions, std=POSITION_STD)
        fused = {id(m.qkv) for m in self.modules() if isinstance(m, SelfAttention)}
        for module in self.modules():
            if isinstance(module, nn.Linear):
                # q, k and v share a matrix but are three: the bound depends on the shape.
                for weight in module.weight.chunk(3 if id(module) in fused else 1):
                    nn.init.xavier_uniform_(weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.head.linear.weight, gain=HEAD_GAIN)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout off inside the block, and restore the training mode after it."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def last_valid(mask_BT: Tensor) -> Tensor:
    """Return last_B, the index of the last True of each row; 0 where there is none."""
    bars_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    return (mask_BT * bars_T).amax(1)


def _pad_mask(x_BTI: Tensor, valid_BT: Tensor | None, padding: int) -> Tensor | None:
    if padding == 0 and (valid_BT is None or bool(valid_BT.all())):
        return None
    if valid_BT is None:
        valid_BT = x_BTI.new_ones(x_BTI.shape[:2], dtype=torch.bool)
    return F.pad(valid_BT, (padding, 0), value=False)
