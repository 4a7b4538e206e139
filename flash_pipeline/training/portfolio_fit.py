"""The optimisation of a portfolio model, and its decisions on hours it has not seen.

Shape letters: T hours of the panel, W windows, L hours of a window, A assets, F inputs, N
decisions.

Every hour of a window teaches (dense, causal): its weights earn the next `horizon` hours' simple
returns from the next open on, divided by the horizon, less what the change from the hour before
costs. That is the mean, over the hours of the day at which one may begin, of a portfolio that is
rebalanced every `horizon` hours; its turnover is bounded by the sum of the hourly changes.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flash_pipeline.errors import InvalidInput, NotEnoughHistory
from flash_pipeline.market import iso_utc
from flash_pipeline.model.grid_analysis import last_moment_attention
from flash_pipeline.model.grid_config import PortfolioConfig
from flash_pipeline.model.portfolio import PortfolioModel
from flash_pipeline.portfolio import Fold, MarketPanel
from flash_pipeline.training.checkpoint import Checkpoint
from flash_pipeline.training.optimizer import make_moments, set_rate
from flash_pipeline.training.portfolio_recipes import PortfolioTraining
from flash_pipeline.training.portfolio_state import Look, PortfolioState
from flash_pipeline.training.runtime import seeded

Floats = npt.NDArray[np.float64]

WARMUP_SHARE = 0.1
"""Share of the steps in which the learning rate rises."""

DECISIONS_AT_ONCE = 200_000
"""Tokens of windows that are decided on in one pass."""


@dataclass(frozen=True)
class PortfolioFit:
    """A finished training; the model has the weights of its best look."""

    model: PortfolioModel
    """In evaluation mode."""
    seed: int
    """Of weights and windows."""
    history: tuple[Look, ...]
    """Every look."""
    seconds: float
    """Wall time; after a resume with what was done up to the checkpoint."""
    attention: str
    """Backend of the training's attention, and why."""
    resumed: str | None = None
    """Where a checkpoint let it go on, in words; None where it ran through."""

    @property
    def best(self) -> Look:
        """The look whose weights were kept."""
        return min(self.history, key=lambda look: look.validation_loss)


class MarketTensors:
    """A panel on the device, and what a model may see of it.

    Parameters
    ----------
    panel : MarketPanel
        All hours.
    train : range
        Training decisions: an asset with fewer tokens than `least_hours` there is absent.
    horizon : int
        Hours that a decision is held, at least 1.
    least_hours : int
        See `PortfolioTraining.least_hours`.
    device : torch.device or None
        By default a GPU where there is one.

    Raises
    ------
    NotEnoughHistory
        If no asset has enough hours in the training range.
    """

    def __init__(
        self,
        panel: MarketPanel,
        train: range,
        horizon: int,
        least_hours: int,
        device: torch.device | None = None,
    ) -> None:
        present_TA = panel.present_TA
        hours_A = present_TA[train.start : train.stop].sum(axis=0)
        self.seen_A = hours_A >= least_hours
        if not self.seen_A.any():
            raise NotEnoughHistory(
                f"no asset has {least_hours} hours from {iso_utc(panel.made_at(train[0]))} to "
                f"{iso_utc(panel.made_at(train[-1]))}: the most is {int(hours_A.max())}"
            )
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        present_TA = present_TA & self.seen_A
        self.x_TAF = torch.tensor(
            panel.x_TAF, device=self.device
        )  # a copy: loaded ones are read-only
        self.present_TA = torch.from_numpy(present_TA).to(self.device)
        y_TA = np.where(present_TA, panel.forward_returns(horizon) / horizon, np.nan)
        self.y_TA = torch.from_numpy(y_TA.astype(np.float32)).to(self.device)

    def windows(self, last_W: Sequence[int], hours: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs, mask and labels of the windows that end with the rows given.

        Raises
        ------
        InvalidInput
            If a window would begin before the first hour, or end after the last.
        """
        if min(last_W) < hours - 1 or max(last_W) >= len(self.x_TAF):
            raise InvalidInput(
                f"windows of {hours} hours end in the rows {min(last_W)} to {max(last_W)}: "
                f"expected {hours - 1} to {len(self.x_TAF) - 1}"
            )
        last = torch.as_tensor(last_W, device=self.device)
        rows_WL = last[:, None] + torch.arange(1 - hours, 1, device=self.device)
        return self.x_TAF[rows_WL], self.present_TA[rows_WL], self.y_TA[rows_WL]


def fit_portfolio(
    tensors: MarketTensors,
    fold: Fold,
    config: PortfolioConfig,
    train: PortfolioTraining,
    seed: int,
    checkpoint: Checkpoint | None = None,
) -> PortfolioFit:
    """Train a model of one variant on a fold, and keep the weights of its best look.

    The windows are drawn by the seed alone, so that variants of equal seed learn from the same
    ones in the same order. Inputs are scaled by the training hours.

    Look-ahead: a training window lies within `fold.train`, whose labels end before the validation
    range; the test range is not read.

    Parameters
    ----------
    checkpoint : Checkpoint or None
        What to go on from, and where to write, whenever it is due, what a killed training goes on
        from. Losses and weights are then those of a training that was never interrupted, on a CPU
        bit for bit.

    Raises
    ------
    TrainingDiverged
        If a loss is NaN or infinite; with the step.
    AttentionUnsupported
        If the configured backend cannot run here.
    """
    began = time.perf_counter()
    rows = slice(fold.train.start, fold.train.stop)
    with seeded(seed):
        model = PortfolioModel.of(config).to(tensors.device)
        model.fit_scale(tensors.x_TAF[rows], tensors.present_TA[rows])
        optimizer = torch.optim.AdamW(
            _groups(model, train.weight_decay), lr=train.learning_rate, betas=(0.9, 0.95)
        )
        make_moments(optimizer, torch.device("cpu"))
        state = PortfolioState(model, optimizer, train.validate_every, seed)
        if checkpoint is not None:
            checkpoint.resume(state)
        _run(state, tensors, fold, train, checkpoint)
    model.load_state_dict(state.best)
    seconds, resumed = time.perf_counter() - began, None
    if checkpoint is not None:
        seconds, resumed = seconds + checkpoint.seconds_before, checkpoint.resumed
    history = tuple(state.history)
    return PortfolioFit(model.eval(), seed, history, seconds, state.attention, resumed)


def _run(
    state: PortfolioState,
    tensors: MarketTensors,
    fold: Fold,
    train: PortfolioTraining,
    checkpoint: Checkpoint | None,
) -> None:
    """Take the steps that are left; none of a finished training."""
    model, hours = state.model, state.model.config.lookback
    first, n_starts = fold.train.start + hours - 1, len(fold.train) - hours + 1
    while state.step < train.steps:
        set_rate(state.optimizer, train.learning_rate * _rate(state.step, train.steps))
        last_W = [first + place for place in state.draw(n_starts, train.batch_size)]
        model.train()
        state.close_step(_step(model, tensors, last_W, state.optimizer, train))
        finished = state.step == train.steps
        looked = finished or state.step % train.validate_every == 0
        if looked:
            state.look(validation_loss(model, tensors, fold.validation))
        if checkpoint is not None and (
            checkpoint.due(epoch_over=looked) or (finished and checkpoint.of_several)
        ):
            checkpoint.write(state)


@torch.no_grad()
def validation_loss(model: PortfolioModel, tensors: MarketTensors, rows: range) -> float:
    """Return the loss over the decisions of a range, each with half a window of history or more.

    Windows overlap by half, and only the newer half of each is judged.
    """
    hours = model.config.lookback
    half = (hours + 1) // 2
    ends = [*range(rows.start + half - 1, rows.stop - 1, half), rows.stop - 1]
    model.eval()
    outputs, labels, done = [], [], rows.start
    for end in (max(end, hours - 1) for end in ends):
        x, present, y = tensors.windows([end], hours)
        judged = torch.arange(end - hours + 1, end + 1, device=tensors.device) >= done
        with _autocast(tensors.device):
            outputs.append(model(x, present))
        labels.append(y.masked_fill(~judged[:, None], math.nan))
        done = end + 1
    return model.loss(torch.cat(outputs), torch.cat(labels)).item()


@torch.no_grad()
def decide(model: PortfolioModel, tensors: MarketTensors, rows: Sequence[int]) -> Floats:
    """Return the weights [N, A] decided at the close of hours, each from a whole window.

    Raises
    ------
    InvalidInput
        If a window would begin before the panel.
    """
    hours = model.config.lookback
    size = max(1, DECISIONS_AT_ONCE // (hours * model.config.n_assets))
    parts = []
    for start in range(0, len(rows), size):
        x, present, _ = tensors.windows(rows[start : start + size], hours)
        with _autocast(tensors.device):
            parts.append(model.predict(x, present).float().cpu())
    return np.asarray(torch.cat(parts).numpy(), np.float64)


def asset_attention(model: PortfolioModel, tensors: MarketTensors, rows: Sequence[int]) -> Floats:
    """Return how the decisions of assets weigh the tokens of each, mean over heads and windows.

    Returns
    -------
    array [A, A]
        Row: the asset whose weight is decided; column: the asset that is looked at, over all lags.
        Of the axial variant the layers along the assets alone. A row sums to 1; NaN where the
        asset was absent in every window.
    """
    wanted = [i for i, axis in enumerate(model.config.axes) if axis != "time"]
    total_AA = np.zeros((model.config.n_assets,) * 2)
    for row in rows:
        x, present, _ = tensors.windows([row], model.config.lookback)
        with _autocast(tensors.device):
            seen = last_moment_attention(model, x, present)
        total_AA += seen.by_cell_LBHGK[wanted].mean((0, 1, 2)).double().cpu().numpy()
    sums_A1 = total_AA.sum(axis=1, keepdims=True)
    shares_AA = np.full_like(total_AA, np.nan)
    np.divide(total_AA, sums_A1, out=shares_AA, where=sums_A1 > 0)
    return shares_AA


def _step(
    model: PortfolioModel,
    tensors: MarketTensors,
    last_W: Sequence[int],
    optimizer: torch.optim.Optimizer,
    train: PortfolioTraining,
) -> Tensor:
    x, present, y = tensors.windows(last_W, model.config.lookback)
    with _autocast(tensors.device):
        outputs = model(x, present)
    loss = model.loss(outputs, y)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm)
    optimizer.step()
    return loss.detach()


def _groups(model: PortfolioModel, decay: float) -> list[dict[str, object]]:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _rate(step: int, steps: int) -> float:
    """Return the share of the peak learning rate: a linear rise, then half a cosine."""
    warmup = max(1, round(steps * WARMUP_SHARE))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
