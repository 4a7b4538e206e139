"""The optimisation: AdamW, cosine schedule, clipping, best checkpoint by validation loss.

Shape letters: N windows, S symbols.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Never

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from flash_pipeline.errors import TrainingDiverged
from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training.bundle import autocast
from flash_pipeline.training.recipes import TrainConfig
from flash_pipeline.training.scaler import Floats
from flash_pipeline.windows.dataset import WindowBatches

EVALUATION_BATCH = 256
"""Windows in a batch without gradients."""

_WARMUP_SHARE = 0.05


@dataclass(frozen=True)
class Epoch:
    """Figures of one pass over the training windows."""

    number: int
    """From 1."""
    train_loss: float
    """Mean over the pass; the head's loss on scaled labels, dropout on."""
    validation_loss: float
    """After the pass, over all validation windows, dropout off."""
    learning_rate: float
    """At the end of the pass."""
    gradient_norm: float
    """Mean over the pass, before clipping."""


def fit(
    model: FlashAttentionTrader,
    batches: WindowBatches,
    train_N: npt.NDArray[np.int64],
    validation_N: npt.NDArray[np.int64],
    config: TrainConfig,
    *,
    epochs: int,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    progress: bool = False,
) -> list[Epoch]:
    """Train a model in place and leave it with the weights of its best epoch.

    The learning rate rises linearly over the first 5 % of the steps and falls to zero along a
    half cosine (Loshchilov and Hutter 2017); gradients are clipped by their global norm (Pascanu
    et al. 2013). Biases, norms and positions are not decayed.

    Parameters
    ----------
    train_N, validation_N : array
        Positions of windows in the frame.
    epochs : int
        Passes over the training windows.

    Returns
    -------
    list of Epoch
        One entry per pass.

    Raises
    ------
    TrainingDiverged
        If a loss becomes NaN or infinite; the message names the epoch.
    """
    per_epoch = min(config.windows_per_epoch or len(train_N), len(train_N))
    steps = math.ceil(per_epoch / config.batch_size)
    optimizer = _optimizer(model, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _cosine(steps * epochs))
    order = torch.Generator().manual_seed(config.seed)
    windows = torch.from_numpy(train_N)
    history: list[Epoch] = []
    best: dict[str, Tensor] = {}
    shown = None if progress else True  # None: in a terminal only
    with tqdm(total=steps * epochs, desc="training", unit="step", disable=shown) as bar:
        for number in range(1, epochs + 1):
            drawn = windows[torch.randperm(len(windows), generator=order)[:per_epoch]]
            parts = torch.split(drawn.to(batches.device), config.batch_size)
            loss, norm = _pass(model, batches, parts, optimizer, schedule, config.clip_norm, bar)
            epoch = Epoch(
                number, loss, evaluate(model, batches, validation_N), _rate(optimizer), norm
            )
            _require_finite(epoch)
            if not history or epoch.validation_loss < min(e.validation_loss for e in history):
                best = {name: value.clone() for name, value in model.state_dict().items()}
            history.append(epoch)
            bar.set_postfix(train=epoch.train_loss, validation=epoch.validation_loss)
            on_epoch(epoch)
    model.load_state_dict(best)
    return history


def evaluate(
    model: FlashAttentionTrader, batches: WindowBatches, index_N: npt.NDArray[np.int64]
) -> float:
    """Return the mean loss over windows, in the units of the head's loss, dropout off."""
    total, weight = 0.0, 0
    model.eval()
    for part in torch.split(torch.from_numpy(index_N).to(batches.device), EVALUATION_BATCH):
        x_NLI, valid_NL, y_NS = batches.batch(part)
        with torch.inference_mode(), autocast(batches.device):
            loss = model.loss(model(x_NLI, valid_NL), y_NS).item()
        known = int(torch.isfinite(y_NS).sum())  # a loss is the mean over known labels
        total, weight = total + loss * known, weight + known
    return total / max(weight, 1)


def predict(
    model: FlashAttentionTrader, batches: WindowBatches, index_N: npt.NDArray[np.int64]
) -> Floats:
    """Return the head's predictions [N, S] on scaled labels for windows of the frame."""
    outputs = []
    for part in torch.split(torch.from_numpy(index_N).to(batches.device), EVALUATION_BATCH):
        x_NLI, valid_NL, _ = batches.batch(part)
        with autocast(batches.device):
            outputs.append(model.predict(x_NLI, valid_NL).float())
    return np.asarray(torch.cat(outputs).cpu().numpy(), dtype=np.float32)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch for the block and give the process its own random state back afterwards."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def _pass(
    model: FlashAttentionTrader,
    batches: WindowBatches,
    parts: tuple[Tensor, ...],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    clip_norm: float,
    bar: "tqdm[Never]",
) -> tuple[float, float]:
    """Run one pass; return the mean loss and gradient norm, read from the device once."""
    model.train()
    losses, norms = [], []
    for part in parts:
        x_NLI, valid_NL, y_NS = batches.batch(part)
        with autocast(batches.device):
            loss = model.loss(model(x_NLI, valid_NL), y_NS)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm))
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
        bar.update()
    return torch.stack(losses).mean().item(), torch.stack(norms).mean().item()


def _optimizer(model: FlashAttentionTrader, config: TrainConfig) -> torch.optim.AdamW:
    matrices = [p for name, p in model.named_parameters() if _decays(name, p)]
    others = [p for name, p in model.named_parameters() if not _decays(name, p)]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        fused=next(model.parameters()).is_cuda,
    )


def _decays(name: str, parameter: Tensor) -> bool:
    return parameter.ndim > 1 and not name.startswith("positions")


def _cosine(steps: int) -> Callable[[int], float]:
    """Return the factor on the peak learning rate as a function of the step."""
    warmup = max(1, round(steps * _WARMUP_SHARE))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return factor


def _rate(optimizer: torch.optim.Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


def _require_finite(epoch: Epoch) -> None:
    if not (math.isfinite(epoch.train_loss) and math.isfinite(epoch.validation_loss)):
        raise TrainingDiverged(
            f"epoch {epoch.number}: training loss {epoch.train_loss}, validation loss "
            f"{epoch.validation_loss}: expected finite numbers; lower the learning rate"
        )
