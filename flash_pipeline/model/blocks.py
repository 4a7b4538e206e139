"""Pre-norm transformer blocks.

Shape letters: B batch rows, T bars, C model width, F MLP width, H heads, D head size.
"""

from torch import Tensor, nn

from flash_pipeline.model.attention import attend
from flash_pipeline.model.config import AttentionName, ModelConfig


class SelfAttention(nn.Module):
    """Multi-head self-attention over the bars of a window (Vaswani et al. 2017, section 3.2).

    Parameters
    ----------
    config : ModelConfig
        Width, heads and dropout.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model)
        self.out = nn.Linear(config.d_model, config.d_model)

    def project(self, h_BTC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return q_BTHD, k_BTHD and v_BTHD; under autocast in its dtype."""
        qkv_BT3HD = self.qkv(h_BTC).unflatten(-1, (3, self.n_heads, -1))
        q_BTHD, k_BTHD, v_BTHD = qkv_BT3HD.unbind(2)
        return q_BTHD, k_BTHD, v_BTHD

    def forward(self, h_BTC: Tensor, mask_BT: Tensor | None, backend: AttentionName) -> Tensor:
        """Return what each bar gathers from the others, [B, T, C].

        Parameters
        ----------
        h_BTC : Tensor
            Normalised states.
        mask_BT : Tensor of bool or None
            False where a bar is absent.
        backend : str
            As for `attend`.
        """
        q_BTHD, k_BTHD, v_BTHD = self.project(h_BTC)
        o_BTHD = attend(
            q_BTHD,
            k_BTHD,
            v_BTHD,
            key_mask_BT=mask_BT,
            dropout_p=self.dropout if self.training else 0.0,
            backend=backend,
        )
        o_BTC: Tensor = self.out(o_BTHD.flatten(-2))
        return o_BTC


class Block(nn.Module):
    """Attention and a GELU MLP, each behind a norm and beside the residual stream.

    Parameters
    ----------
    config : ModelConfig
        Widths, heads and dropout.
    """

    def __init__(self, config: ModelConfig) -> None:
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

    def forward(self, h_BTC: Tensor, mask_BT: Tensor | None, backend: AttentionName) -> Tensor:
        """Return the residual stream after the block; arguments as for `SelfAttention`."""
        gathered_BTC = self.attention(self.attention_norm(h_BTC), mask_BT, backend)
        h_BTC = h_BTC + self.attention_dropout(gathered_BTC)
        updated_BTC: Tensor = h_BTC + self.mlp(self.mlp_norm(h_BTC))
        return updated_BTC
