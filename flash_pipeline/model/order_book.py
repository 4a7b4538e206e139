"""The order book's model: every level of every snapshot is a token.

Shape letters: B batch rows, T snapshots, L levels, S sides (0 bids, 1 asks), F inputs of a level
(price relative to the mid price, log size, age), G cells of a snapshot (level by level, bid before
ask), C model width, H horizons, K movements (down, flat, up).
"""

from dataclasses import fields
from typing import Any, Self

import torch
from torch import Tensor, nn

from flash_pipeline.model.grid import GridModel
from flash_pipeline.model.grid_config import SIDES, OrderBookConfig
from flash_pipeline.model.heads import HEAD_GAIN
from flash_pipeline.model.movement import MOVEMENTS, movement_loss, probabilities
from flash_pipeline.model.sequence import evaluating


class OrderBookModel(GridModel):
    """Predicts whether the mid price goes down, stays or goes up, at several horizons.

    One token per (snapshot, side, level): 50 levels, 2 sides and 1,000 snapshots are 100,000, and
    each attends to all of them, or under the span `causal` to those before it (`layout="joint"`). A
    linear map with weights of its own for each level and side reads the last snapshot's tokens. The
    axial variant has the same weights, and attends within a snapshot and along each level's time in
    turn.

    Parameters
    ----------
    n_levels : int
        Levels of each side.
    history_length : int
        Snapshots of a window.
    **options
        Further fields of `OrderBookConfig`, by name.

    Raises
    ------
    InvalidConfig
        For a value out of its bounds.

    Examples
    --------
    >>> model = OrderBookModel(2, 4, d_model=8, n_heads=1, n_layers=1, d_ff=16, n_horizons=3)
    >>> tuple(model(torch.zeros(5, 4, 2, 2, 3)).shape)
    (5, 3, 3)
    """

    def __init__(
        self,
        n_levels: int = 50,
        history_length: int = 1000,
        **options: Any,  # noqa: ANN401  (OrderBookConfig's fields)
    ) -> None:
        config = OrderBookConfig(n_levels, history_length, **options)
        super().__init__(config)
        self.config: OrderBookConfig = config
        self.level = nn.Embedding(config.n_levels, config.d_model)
        self.side = nn.Embedding(SIDES, config.d_model)
        read = config.n_cells * config.d_model
        self.head = nn.Linear(read, config.n_horizons * len(MOVEMENTS))
        self._initialise()
        nn.init.xavier_uniform_(self.head.weight, gain=HEAD_GAIN)

    @classmethod
    def of(cls, config: OrderBookConfig) -> Self:
        """Return a model of a configuration."""
        return cls(**{each.name: getattr(config, each.name) for each in fields(config)})

    def cells(self) -> Tensor:
        """Return the embeddings of levels and sides, [G, C]."""
        return (self.level.weight[:, None] + self.side.weight).flatten(0, 1)

    def read(self, h_BGC: Tensor, mask_BG: Tensor | None) -> Tensor:
        """Return logits [..., H, K] of snapshots; zeros, even chances, where one has no level."""
        normal_BGC: Tensor = self.norm(h_BGC)
        if mask_BG is not None:
            normal_BGC = normal_BGC.masked_fill(~mask_BG[..., None], 0.0)
        logits_BHK: Tensor = self.head(normal_BGC.flatten(-2)).unflatten(-1, (-1, len(MOVEMENTS)))
        if mask_BG is None:
            return logits_BHK
        return logits_BHK.masked_fill(~mask_BG.any(-1)[..., None, None], 0.0)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy over the known labels: see `movement_loss`."""
        return movement_loss(outputs, targets)

    @torch.no_grad()
    def predict(self, book_BTLSF: Tensor, valid_BTLS: Tensor | None = None) -> Tensor:
        """Return the probabilities of down, flat and up after the last snapshot, [B, H, 3].

        Arguments and errors as for `forward`.
        """
        with evaluating(self):
            return probabilities(self.last_outputs(book_BTLSF, valid_BTLS))

    @property
    def _cell_shape(self) -> tuple[int, ...]:
        return self.config.n_levels, SIDES

    def _advice(self, shape: tuple[int, ...]) -> str:
        if len(shape) == 5 and shape[2] < self.config.n_levels:
            return (
                f"; a book of {shape[2]} levels is below the model's {self.config.n_levels}: give "
                "the missing ones as tokens that `valid` hides, or train a model of fewer"
            )
        return ""
