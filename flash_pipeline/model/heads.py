"""What the model predicts, and the loss that teaches it.

Shape letters: ... any leading axes (rows; under dense supervision rows and bars), N positions of
all leading axes, B batch rows, T bars, C model width, S symbols, Q quantile levels.

Targets are forward returns as a target scaler puts them (`training.targets`); NaN where the return
is not known (a missing candle, a future that has not come), and such entries do not count in any
loss.
"""

import abc
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model.config import HeadName, HeadOptions, ModelConfig

HEAD_GAIN = 0.01
"""Gain of the head's Xavier initialisation.

The head reads a normalised vector, so a gain of 1 would start with outputs of about 1, a hundred
times a day's return; this starts them near 0.01: a small return, an even chance, no position.
"""

SHARPE_EPSILON = 1e-6
"""Added to the standard deviation of portfolio returns: nothing held has the ratio 0, not 0 / 0."""


class Head(nn.Module, abc.ABC):
    """A linear map from the state of a bar to the outputs for every symbol, with its loss.

    Parameters
    ----------
    config : ModelConfig
        Width, symbols and options.
    width : int
        Outputs for each symbol.
    """

    def __init__(self, config: ModelConfig, width: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(config.d_model, config.n_outputs * width)

    def forward(self, h_C: Tensor) -> Tensor:
        """Return the outputs that `loss` and `predict` take.

        Parameters
        ----------
        h_C : Tensor
            States [..., C].

        Returns
        -------
        outputs_S : Tensor
            [..., S]; a quantile head has one more axis.
        """
        outputs_S: Tensor = self.linear(h_C)
        return outputs_S

    def loss(self, outputs_S: Tensor, targets_S: Tensor) -> Tensor:
        """Return the loss over the known targets, a scalar in float32 or wider.

        Parameters
        ----------
        outputs_S : Tensor
            Of `forward`.
        targets_S : Tensor
            Scaled forward returns [..., S]; NaN entries do not count. An infinite one does, and
            makes the loss infinite or NaN for the training loop to see.

        Returns
        -------
        Tensor
            Scalar; 0, with zero gradients, where no target is known.

        Raises
        ------
        InvalidInput
            If the shapes do not fit.
        """
        expected = self._targets_shape(outputs_S)
        if targets_S.shape != expected:
            raise InvalidInput(
                f"targets have the shape {tuple(targets_S.shape)}: "
                f"expected that of the predictions, {tuple(expected)}"
            )
        known_S = ~targets_S.isnan()
        outputs_S = outputs_S.to(torch.promote_types(outputs_S.dtype, torch.float32))
        targets_S = targets_S.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf)
        return self._loss(outputs_S, targets_S.to(outputs_S.dtype), known_S)

    def predict(self, outputs_S: Tensor) -> Tensor:
        """Return the predictions [..., S] that the outputs stand for, in the unit of the head."""
        return outputs_S

    @abc.abstractmethod
    def _loss(self, outputs_S: Tensor, targets_S: Tensor, known_S: Tensor) -> Tensor:
        """Return the scalar loss; targets are free of NaN, 0 where not known."""

    def _targets_shape(self, outputs_S: Tensor) -> torch.Size:
        return outputs_S.shape


class RegressionHead(Head):
    """Predicts the forward log return itself; taught by the mean squared error."""

    def _loss(self, outputs_S: Tensor, targets_S: Tensor, known_S: Tensor) -> Tensor:
        return _mean_over_known((outputs_S - targets_S).square(), known_S)


class DirectionHead(Head):
    """Predicts the probability of a rise; taught by the binary cross-entropy.

    Outputs are logits. A return of exactly 0 is no rise.
    """

    def predict(self, outputs_S: Tensor) -> Tensor:
        """Return the probability of a rise, in [0, 1]."""
        return outputs_S.sigmoid()

    def _loss(self, outputs_S: Tensor, targets_S: Tensor, known_S: Tensor) -> Tensor:
        rises_S = (targets_S > 0).to(outputs_S.dtype)
        losses_S = F.binary_cross_entropy_with_logits(outputs_S, rises_S, reduction="none")
        return _mean_over_known(losses_S, known_S)


class QuantileHead(Head):
    """Predicts quantiles of the forward log return; taught by the pinball loss.

    Outputs [..., S, Q] are, at the median's level, the median itself and, elsewhere, what softplus
    turns into the distance to the next level towards the median. So no two quantiles can cross:

        q(0.05) = q(0.25) - softplus(a)   q(0.25) = median - softplus(b)   median   ...

    Outputs of 0 stand for a median of 0 and steps of ln 2: about the quantiles of a standard
    normal at the default levels, which is what a scaled target is expected to look like.
    """

    def __init__(self, config: ModelConfig) -> None:
        levels = config.head_options.quantiles
        super().__init__(config, len(levels))
        self.register_buffer("levels_Q", torch.tensor(levels), persistent=False)
        self._shape = (config.n_outputs, len(levels))
        self._median = levels.index(0.5)

    def forward(self, h_C: Tensor) -> Tensor:
        """Return outputs_SQ [..., S, Q] for states [..., C]."""
        return super().forward(h_C).view(*h_C.shape[:-1], *self._shape)

    def quantiles(self, outputs_SQ: Tensor) -> Tensor:
        """Return quantiles_SQ [..., S, Q], in the order of the levels: never descending.

        Added up step by step: a sum with a step of 0 or more never rounds to less than before,
        which a difference of running sums, or a parallel scan, may.
        """
        outputs_Q = outputs_SQ.unbind(-1)
        steps_Q = F.softplus(outputs_SQ).unbind(-1)
        median, at = outputs_Q[self._median], self._median
        above = list(itertools.accumulate([median, *steps_Q[at + 1 :]]))
        below = list(itertools.accumulate([median, *steps_Q[:at][::-1]], torch.sub))
        return torch.stack([*below[:0:-1], *above], -1)

    def predict(self, outputs_SQ: Tensor) -> Tensor:
        """Return the median [..., S]."""
        return outputs_SQ[..., self._median]

    def _loss(self, outputs_SQ: Tensor, targets_S: Tensor, known_S: Tensor) -> Tensor:
        """Return the pinball loss, summed over the levels and averaged over the known targets.

        max(p e, (p - 1) e) with the error e = target - quantile at the level p (Koenker and
        Bassett 1978, "Regression Quantiles").
        """
        levels_Q = self.get_buffer("levels_Q").to(outputs_SQ.dtype)
        errors_SQ = targets_S[..., None] - self.quantiles(outputs_SQ)
        losses_SQ = torch.maximum(levels_Q * errors_SQ, (levels_Q - 1) * errors_SQ)
        return _mean_over_known(losses_SQ.sum(-1), known_S)

    def _targets_shape(self, outputs_SQ: Tensor) -> torch.Size:
        return outputs_SQ.shape[:-1]


class AllocationHead(Head):
    """Predicts a weight per symbol, a fraction of the capital; taught by what it earns.

    Weights lie in [-1, 1], and the sum of their sizes is at most `gross_cap`: a row beyond it is
    scaled down as a whole.

    Targets are simple returns, so that a portfolio's return is the sum of weight times return:
    under `last` supervision over the whole horizon of h bars; under `dense` divided by h, which
    is what the bar adds to a book that holds the mean of the last h weights (averaged cohorts,
    as the backtest trades). What is maximised is that sum less turnover times `turnover_cost`:

    - `dense`: turnover is the change of weights from the bar before. For averaged cohorts, whose
      own turnover is |w[t] - w[t-h]| / h, it is an upper bound on average. The first bar of a
      window is free: what was held before it is not known.
    - `last`: windows are drawn at random, there is no bar before, so a position pays for being
      opened and closed, twice its size.

    A symbol whose target is not known neither earns nor pays, nor does its change to or from it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self._options = config.head_options
        self._dense = config.supervision == "dense"

    def forward(self, h_C: Tensor) -> Tensor:
        """Return weights_S [..., S] for states [..., C]."""
        return within_gross(super().forward(h_C).tanh(), self._options.gross_cap)

    def _loss(self, outputs_S: Tensor, targets_S: Tensor, known_S: Tensor) -> Tensor:
        return allocation_loss(outputs_S, targets_S, known_S, self._options, dense=self._dense)


HEADS: dict[HeadName, type[Head]] = {
    "regression": RegressionHead,
    "direction": DirectionHead,
    "allocation": AllocationHead,
    "quantile": QuantileHead,
}
"""Head of each name in `ModelConfig.head`; called with the `ModelConfig`."""


def within_gross(weights_S: Tensor, gross_cap: float) -> Tensor:
    """Return weights [..., S] scaled down as a whole where their sizes add up beyond a cap."""
    gross = weights_S.abs().sum(-1, keepdim=True)
    return weights_S * (gross_cap / gross.clamp(min=gross_cap))


def allocation_loss(
    weights_S: Tensor, returns_S: Tensor, known_S: Tensor, options: HeadOptions, *, dense: bool
) -> Tensor:
    """Return the loss of weights by what they earn, net of costs: see `AllocationHead`.

    Parameters
    ----------
    weights_S : Tensor
        [..., S]; the axis before S is time where `dense`.
    returns_S, known_S : Tensor
        Simple returns, 0 where not known, and where they are known.
    options : HeadOptions
        Objective, risk aversion and cost of turnover.
    dense : bool
        Whether turnover is the change from the moment before.
    """
    earned_S = (weights_S * returns_S).where(known_S, 0.0)
    paid_S = options.turnover_cost * _turnover(weights_S, known_S, dense=dense)
    net_N = (earned_S - paid_S).sum(-1).flatten()
    mean, variance, count = _moments(net_N, known_S.any(-1).flatten())
    if options.objective == "mean_variance":
        return options.risk_aversion / 2 * variance - mean
    return -_sharpe_ratio(mean, variance, count)


def _turnover(weights_S: Tensor, known_S: Tensor, *, dense: bool) -> Tensor:
    """Return what each weight [..., S] trades, as a fraction of the capital."""
    if not dense:
        return (2 * weights_S.abs()).where(known_S, 0.0)
    change_S = weights_S.diff(dim=-2).abs()
    both_S = known_S[..., 1:, :] & known_S[..., :-1, :]
    return F.pad(change_S.where(both_S, 0.0), (0, 0, 1, 0))


def _mean_over_known(losses_S: Tensor, known_S: Tensor) -> Tensor:
    return losses_S.where(known_S, 0.0).sum() / known_S.sum().clamp(min=1)


def _moments(returns_N: Tensor, known_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, variance (divided by their number) and number of the known returns."""
    count = known_N.sum()
    mean = _mean_over_known(returns_N, known_N)
    return mean, _mean_over_known((returns_N - mean).square(), known_N), count


def _sharpe_ratio(mean: Tensor, variance: Tensor, count: Tensor) -> Tensor:
    """Return mean / standard deviation, per position; 0 for fewer than two returns.

    Sharpe 1994, "The Sharpe Ratio"; as a training objective: Zhang, Zohren and Roberts 2020,
    "Deep Learning for Portfolio Optimization". The root is taken of variance + epsilon², whose
    gradient stays finite where nothing varies.
    """
    ratio = mean / (variance + SHARPE_EPSILON**2).sqrt()
    return ratio.where(count > 1, 0.0)
