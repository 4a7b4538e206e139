"""Floating-point operations, counted from shapes.

A multiply-add counts two. Softmax, norms, activations, rotations and the optimizer are left out,
as is usual; so is whatever a kernel computes twice to save memory.
"""

from flash_pipeline.model.config import ModelConfig, SpanName

ATTENTION_FORMULA = (
    "attention FLOPs = 4 * batch * heads * head size * pairs forward (q k^T and p v), 2.5 times "
    "that backward (five products in place of two, as the FlashAttention papers count); "
    "pairs = T^2 full, T (T + 1) / 2 causal, W (W + 1) / 2 + (T - W) W sliding with W < T"
)
"""Of `attention_flops`."""

STEP_FORMULA = (
    "step FLOPs = 3 * [2 * N * B * T + layers * 4 * d_model * B * pairs], N the parameters of the "
    "matrix products: layers * (4 d_model^2 + 2 d_model d_ff) + inputs * d_model; forward alone "
    "without the 3; pairs = T^2 full, T (T + 1) / 2 causal, W (W + 1) / 2 + (T - W) W sliding. "
    "Recomputation does not count. MFU = FLOPs / time / measured rate of a bf16 matrix product"
)
"""Of `step_flops`."""


def pairs(length: int, span: SpanName, window: int | None = None) -> int:
    """Return how many query-key pairs one head of one row attends over.

    Examples
    --------
    >>> pairs(4, "full"), pairs(4, "causal"), pairs(4, "sliding", 2)
    (16, 10, 7)
    """
    if span == "full":
        return length**2
    seen = length if window is None else min(window, length)
    return seen * (seen + 1) // 2 + (length - seen) * seen


def attention_flops(
    batch: int,
    length: int,
    n_heads: int,
    head_size: int,
    span: SpanName,
    window: int | None = None,
    *,
    forward: bool = True,
    backward: bool = True,
) -> float:
    """Return the operations of an attention call, by `ATTENTION_FORMULA`."""
    once = 4 * batch * n_heads * head_size * pairs(length, span, window)
    return once * (forward + 2.5 * backward)


def forward_flops(config: ModelConfig, batch: int, length: int) -> float:
    """Return the operations of a forward pass, by `STEP_FORMULA`."""
    block = 4 * config.d_model**2 + 2 * config.d_model * config.d_ff
    matmul = config.n_layers * block + config.input_dim * config.d_model
    attention = config.n_layers * 4 * config.d_model * pairs(length, config.span, config.window)
    return float(batch * (2 * matmul * length + attention))


def step_flops(config: ModelConfig, batch: int, length: int) -> float:
    """Return the operations of a training step, by `STEP_FORMULA`."""
    return 3 * forward_flops(config, batch, length)
