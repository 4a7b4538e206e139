"""The whole market's model: every hour of every asset is a token.

Shape letters: B batch rows, T hours, A assets, F inputs of a token, C model width.

An asset that is not listed yet, or no more, has no tokens: `present` is False there, and it is left
out of every layer, never filled (`model.tokens`).
"""

from dataclasses import fields
from typing import Any, Self

import torch
from torch import Tensor, nn

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model.grid import GridModel
from flash_pipeline.model.grid_config import PortfolioConfig
from flash_pipeline.model.heads import HEAD_GAIN, allocation_loss, within_gross
from flash_pipeline.model.sequence import evaluating


class PortfolioModel(GridModel):
    """Gives the weights of a portfolio of many assets, each seen beside all others.

    One token per (hour, asset): 100 assets and 2,048 hours are 204,800, and each attends to all of
    them, or under the span `causal` to those before it (`layout="joint"`). An asset's weight is
    read from its own token of the last hour and from the mean of that hour's tokens. It lies within
    `asset_cap`, and the sum of their sizes within `gross_cap`: a row beyond it is scaled down as a
    whole, and what is not invested is cash. The axial variant has the same weights; it attends
    along each asset's time and across the assets of an hour in turn.

    Parameters
    ----------
    n_assets : int
        Assets.
    lookback : int
        Hours of a window.
    d_model, n_heads, n_layers : int
        Width, attention heads and blocks. Heads of 64 or more are several times as fast as the
        default's of 16.
    **options
        Further fields of `PortfolioConfig`, by name.

    Raises
    ------
    InvalidConfig
        For a value out of its bounds.

    Examples
    --------
    >>> model = PortfolioModel(5, 8, d_model=8, n_heads=1, n_layers=1, d_ff=16)
    >>> model(torch.zeros(2, 8, 5, 3)).abs().sum(-1) <= 1
    tensor([True, True])
    """

    def __init__(
        self,
        n_assets: int = 100,
        lookback: int = 2048,
        d_model: int = 128,
        n_heads: int = 8,
        n_layers: int = 4,
        **options: Any,  # noqa: ANN401  (PortfolioConfig's fields)
    ) -> None:
        config = PortfolioConfig(
            n_assets, lookback, d_model=d_model, n_heads=n_heads, n_layers=n_layers, **options
        )
        super().__init__(config)
        self.config: PortfolioConfig = config
        self.asset = nn.Embedding(config.n_assets, config.d_model)
        self.market = nn.Linear(config.d_model, config.d_model)
        self.head = nn.Linear(config.d_model, 1)
        self._initialise()
        nn.init.xavier_uniform_(self.head.weight, gain=HEAD_GAIN)

    @classmethod
    def of(cls, config: PortfolioConfig) -> Self:
        """Return a model of a configuration."""
        return cls(**{each.name: getattr(config, each.name) for each in fields(config)})

    def cells(self) -> Tensor:
        """Return the embeddings of assets, [A, C]."""
        return self.asset.weight

    def read(self, h_BGC: Tensor, mask_BG: Tensor | None) -> Tensor:
        """Return weights [..., A] of hours; 0 for an asset that is absent there."""
        if mask_BG is None:
            mean_B1C = h_BGC.mean(-2, keepdim=True)
        else:
            count_B11 = mask_BG.sum(-1)[..., None, None].clamp(min=1)
            mean_B1C = h_BGC.sum(-2, keepdim=True) / count_B11  # what is absent is zero
        scores_BA = self.head(self.norm(h_BGC + self.market(mean_B1C)))[..., 0]
        wanted_BA = scores_BA.tanh() * self.config.asset_cap
        if mask_BG is not None:
            wanted_BA = wanted_BA.masked_fill(~mask_BG, 0.0)
        return within_gross(wanted_BA, self.config.head_options.gross_cap)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return what the weights fail to earn, net of costs: see `AllocationHead`.

        Parameters
        ----------
        outputs : Tensor
            Weights [B, A], or [B, T, A] under dense supervision.
        targets : Tensor
            Simple returns of the same shape, over the horizon or, where dense, per hour; NaN where
            not known, such as of an asset that is not listed: it neither earns nor pays.

        Raises
        ------
        InvalidInput
            If the shapes do not fit.
        """
        if outputs.shape != targets.shape:
            raise InvalidInput(
                f"targets have the shape {tuple(targets.shape)}: "
                f"expected that of the weights, {tuple(outputs.shape)}"
            )
        known = ~targets.isnan()
        weights = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        returns = targets.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf)
        options, dense = self.config.head_options, self.config.supervision == "dense"
        return allocation_loss(weights, returns.to(weights.dtype), known, options, dense=dense)

    @torch.no_grad()
    def predict(self, x_BTAF: Tensor, present_BTA: Tensor | None = None) -> Tensor:
        """Return the weights [B, A] after the last hour, fractions of the capital.

        Arguments and errors as for `forward`. An asset without any token, or without one in the
        last hour, has the weight 0.
        """
        with evaluating(self):
            return self.last_outputs(x_BTAF, present_BTA)

    def _advice(self, shape: tuple[int, ...]) -> str:
        if len(shape) == 4 and shape[2] < self.config.n_assets:
            return (
                f"; {shape[2]} assets are fewer than the {self.config.n_assets} of the training: "
                "give a missing one as a column that `present` hides, in its old place"
            )
        return ""
