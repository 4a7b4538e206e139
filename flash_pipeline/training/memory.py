"""What a training step takes of a GPU's memory, and the errors that say so.

Letters: C model width, F MLP width, H heads, T bars of a window.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from flash_pipeline.errors import OutOfMemory
from flash_pipeline.model.config import ModelConfig
from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training.recipes import TrainConfig

_CUDA_IS_FULL = ("CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
"""Of a context or a library that found no room: torch raises no OutOfMemoryError then."""


def step_bytes(model: ModelConfig, train: TrainConfig, parameters: int, bars: int) -> int:
    """Estimate the peak memory of a training step under bf16 autocast, in bytes.

    Per parameter 16: weight, gradient and two moments in float32; 8 more for the average and its
    exchange with the weights. Per bar of a micro-batch and layer, for the backward pass:

        20 C + 4 F          without dropout: two float32 inputs of the norms (8 C); in bf16 the
                            norms' outputs, queries, keys, values and attention (12 C), and the
                            MLP before and after its GELU (4 F)
        22 C + 7 F          with dropout: its masks, and the dropped MLP too
        8 H T               more, for scores and weights, where attention is `reference`

    With activation checkpointing every layer keeps 4 C, its input, and one layer all of it.

    Parameters
    ----------
    parameters : int
        Of the model.
    bars : int
        Of a window.
    """
    c, f = model.d_model, model.d_ff
    per_bar = 22 * c + 7 * f if model.dropout else 20 * c + 4 * f
    if model.attention == "reference":
        per_bar += 8 * model.n_heads * bars
    layers = model.n_layers
    kept = layers * 4 * c + per_bar if train.activation_checkpointing else layers * per_bar
    micro_batch = -(-train.batch_size // train.accumulation)
    per_parameter = 16 if train.ema_decay is None else 24
    return micro_batch * bars * kept + per_parameter * parameters


@contextmanager
def memory_explained(model: FlashAttentionTrader, train: TrainConfig, bars: int) -> Iterator[None]:
    """Turn torch's error about memory into one that says what was asked for and what helps.

    Raises
    ------
    OutOfMemory
        With the batch, the length and the estimate of `step_bytes`.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        micro_batch = -(-train.batch_size // train.accumulation)
        need = step_bytes(model.config, train, model.n_parameters, bars) / 2**30
        remedies = [f"accumulation above {train.accumulation}"]
        if model.config.head == "allocation":  # its loss is not the mean over micro-batches
            remedies = [f"batch_size below {train.batch_size}"]
        if not train.activation_checkpointing:
            remedies.append("activation_checkpointing=True")
        if model.config.attention == "reference":
            remedies.append("another attention than 'reference'")
        raise OutOfMemory(
            f"a step on {micro_batch} windows x {bars} bars ({train.batch_size} in "
            f"{train.accumulation} parts) takes about {need:.1f} GiB, more than is free: try "
            f"{' or '.join(remedies)}. PyTorch: {str(error).splitlines()[0]}"
        ) from error


@contextmanager
def gpu_explained(what: str) -> Iterator[None]:
    """Turn torch's error about a GPU without room into one that says for what.

    Raises
    ------
    OutOfMemory
        With `what`, plural; whether torch's own memory ran out or CUDA's.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not isinstance(error, torch.OutOfMemoryError) and not any(
            words in text for words in _CUDA_IS_FULL
        ):
            raise
        raise OutOfMemory(
            f"{what} do not fit the GPU: free the memory that others hold. "
            f"PyTorch: {text.splitlines()[0]}"
        ) from error


@contextmanager
def pass_explained(config: ModelConfig, windows: int, bars: int) -> Iterator[None]:
    """Turn torch's error about memory in a pass without gradients into one that says what it was.

    Parameters
    ----------
    windows, bars : int
        Of the pass, and of a window.

    Raises
    ------
    OutOfMemory
        With both, and what helps.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        remedy = "free the memory that others hold, or shorten the lookback"
        if config.attention in ("reference", "sdpa"):
            remedy += f", or take another attention than {config.attention!r}"
        raise OutOfMemory(
            f"a pass without gradients over {windows} windows x {bars} bars takes more memory "
            f"than is free: {remedy}. PyTorch: {str(error).splitlines()[0]}"
        ) from error
