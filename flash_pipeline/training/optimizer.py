"""AdamW, its learning rate, and the schedule of it."""

import math

import torch
from torch import Tensor, nn

from flash_pipeline.training.recipes import TrainConfig

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""State that AdamW keeps for each parameter: steps taken, and the gradient's two moments."""

_WARMUP_SHARE = 0.05


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter 2019) for a model, its state made and zero.

    Matrices decay; biases, norms and positions do not. One fused kernel updates all weights. On a
    GPU the learning rate is a tensor there, so that `set_rate` changes it under a captured step.
    """
    matrices = [p for name, p in model.named_parameters() if _decays(name, p)]
    others = [p for name, p in model.named_parameters() if not _decays(name, p)]
    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    rate = config.learning_rate
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=torch.tensor(rate, dtype=torch.float32, device=device) if on_gpu else rate,
        fused=True,
        capturable=on_gpu,
    )
    make_moments(optimizer, device)
    return optimizer


def make_moments(optimizer: torch.optim.AdamW, device: torch.device) -> None:
    """Make the optimizer's state, zero, as AdamW would at its first step.

    Made before, a checkpoint can be read into it and a captured step allocates nothing.

    Parameters
    ----------
    device : torch.device
        Of the counts of steps: the parameters' where the optimizer is fused, else the CPU.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), device=device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }


def moments_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state by the names of the moment and the parameter, live."""
    return {
        f"{moment}/{name}": optimizer.state[parameter][moment]
        for name, parameter in model.named_parameters()
        for moment in MOMENTS
    }


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of the next steps, without waiting for the GPU."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value


def cosine(step: int, steps: int) -> float:
    """Return the share of the peak learning rate that a step takes.

    Parameters
    ----------
    step : int
        From 0.
    steps : int
        Steps of the whole training.

    Returns
    -------
    float
        Rises linearly to 1 over the first 5 % of the steps, then falls towards 0 along a half
        cosine (Loshchilov and Hutter 2017).
    """
    warmup = max(1, round(steps * _WARMUP_SHARE))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _decays(name: str, parameter: Tensor) -> bool:
    return parameter.ndim > 1 and not name.startswith("positions")
