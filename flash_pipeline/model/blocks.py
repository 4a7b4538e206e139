"""Pre-norm transformer blocks.

Shape letters: B batch rows, T bars, C model width, F MLP width, H heads, D head size, R pairs of
a head's entries.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from flash_pipeline.model.attention import BackendChoice, attend
from flash_pipeline.model.config import AttentionName, SpanName
from flash_pipeline.model.rotary import rotate


class BlockShape(Protocol):
    """What a block needs to know of a model's configuration."""

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""

    @property
    def n_heads(self) -> int:
        """Heads of attention."""

    @property
    def d_ff(self) -> int:
        """Width of the MLP's hidden layer."""

    @property
    def span(self) -> SpanName:
        """Which bars a bar attends to."""

    @property
    def window(self) -> int | None:
        """Bars that a bar sees under `sliding`."""

    @property
    def dropout(self) -> float:
        """Probability of dropping."""


@dataclass(frozen=True)
class Context:
    """What every block of one pass is given beside the stream."""

    mask_BT: Tensor | None
    """False where a bar is absent; None where none is."""
    turn_2TR: Tensor | None
    """Rotation of queries and keys; None with learned positions."""
    backend: AttentionName | BackendChoice
    """As for `attend`."""


class SelfAttention(nn.Module):
    """Multi-head self-attention over the bars of a window (Vaswani et al. 2017, section 3.2).

    Parameters
    ----------
    config : BlockShape
        Width, heads, span and dropout.
    """

    def __init__(self, config: BlockShape) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.dropout = config.dropout
        self.causal = config.span != "full"
        self.window = config.window
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model)
        self.out = nn.Linear(config.d_model, config.d_model)

    def project(
        self, h_BTC: Tensor, turn_2TR: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return q_BTHD, k_BTHD and v_BTHD, turned; under autocast in its dtype."""
        qkv_BT3HD = self.qkv(h_BTC).unflatten(-1, (3, self.n_heads, -1))
        q_BTHD, k_BTHD, v_BTHD = qkv_BT3HD.unbind(-3)
        if turn_2TR is not None:
            q_BTHD, k_BTHD = rotate(q_BTHD, turn_2TR), rotate(k_BTHD, turn_2TR)
        return q_BTHD, k_BTHD, v_BTHD

    def forward(self, h_BTC: Tensor, context: Context) -> Tensor:
        """Return what each bar gathers from the others, [B, T, C], from normalised states."""
        q_BTHD, k_BTHD, v_BTHD = self.project(h_BTC, context.turn_2TR)
        o_BTHD = attend(
            q_BTHD,
            k_BTHD,
            v_BTHD,
            key_mask_BT=context.mask_BT,
            causal=self.causal,
            window=self.window,
            dropout_p=self.dropout if self.training else 0.0,
            backend=context.backend,
        )
        o_BTC: Tensor = self.out(o_BTHD.flatten(-2))
        return o_BTC


class Block(nn.Module):
    """Attention and a GELU MLP, each behind a norm and beside the residual stream.

    Parameters
    ----------
    config : BlockShape
        Widths, heads, span and dropout.
    """

    def __init__(self, config: BlockShape) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.attention = SelfAttention(config)
        self.attention_dropout = nn.Dropout(config.dropout)
        self.mlp_norm = nn.LayerNorm(config.d_model)
        self.mlp = nn.Sequential(
            nn.Linear(config.d_model, config.d_ff),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.d_ff, config.d_model),
            nn.Dropout(config.dropout),
        )

    def forward(self, h_BTC: Tensor, context: Context) -> Tensor:
        """Return the residual stream after the block."""
        gathered_BTC = self.attention(self.attention_norm(h_BTC), context)
        h_BTC = h_BTC + self.attention_dropout(gathered_BTC)
        updated_BTC: Tensor = h_BTC + self.mlp(self.mlp_norm(h_BTC))
        return updated_BTC


def draw_weights(model: nn.Module) -> None:
    """Draw Xavier-uniform weights (Glorot and Bengio 2010) and zero biases of all linear maps."""
    fused = {id(m.qkv) for m in model.modules() if isinstance(m, SelfAttention)}
    for module in model.modules():
        if isinstance(module, nn.Linear):
            # q, k and v share a matrix but are three: the bound depends on the shape.
            for weight in module.weight.chunk(3 if id(module) in fused else 1):
                nn.init.xavier_uniform_(weight)
            nn.init.zeros_(module.bias)
