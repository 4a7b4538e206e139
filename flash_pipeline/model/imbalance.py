"""What an order-book model must beat: logistic regressions on imbalance, order flow and state.

Shape letters: B batch rows, T snapshots, L levels, S sides (0 bids, 1 asks), F inputs of a level
(relative price, log size, ...), P regressors, H horizons, K movements (down, flat, up), D depths, N
all rows of a training.
"""

import abc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model.movement import MOVEMENTS, movement_loss, probabilities

PRICE, LOG_SIZE = 0, 1
"""Places of the inputs that are read."""

BID, ASK = 0, 1

DEPTHS = (1, 2, 5, 10, 20, 50)
"""Levels of each side whose sizes are added up; those beyond the book are left out."""

SPANS = (1, 10, 100, 1000)
"""Snapshots over which order flow is added up, the last ones; those beyond the window are cut."""

STATE_SPANS = (1, 5, 10, 60, 600)
"""Snapshots over which `LogisticState` adds up; the longest one is cut to the window."""

_RIDGE = 1e-4
_ITERATIONS = 200


@dataclass(frozen=True)
class SizeScale:
    """How an input became a log size: size = exp(mean + deviation x input) - 1, in any unit."""

    mean: float = 0.0
    """Mean of ln(1 + size)."""
    deviation: float = 1.0
    """Its standard deviation, above 0."""

    def sizes(self, input_BLS: Tensor, valid_BLS: Tensor | None) -> Tensor:
        """Return sizes, 0 where a level is absent."""
        size_BLS = (self.mean + self.deviation * input_BLS).expm1().clamp(min=0.0)
        return size_BLS if valid_BLS is None else size_BLS.where(valid_BLS, 0.0)


AS_IT_IS = SizeScale()
"""Of inputs that are ln(1 + size)."""


class BookRegression(nn.Module, abc.ABC):
    """A multinomial logistic regression, used as an `OrderBookModel` is.

    Parameters
    ----------
    n_regressors : int
        P.
    n_horizons : int
        H.
    """

    def __init__(self, n_regressors: int, n_horizons: int) -> None:
        super().__init__()
        self.n_horizons = n_horizons
        self.register_buffer("centre_P", torch.zeros(n_regressors))
        self.register_buffer("spread_P", torch.ones(n_regressors))
        self.linear = nn.Linear(n_regressors, n_horizons * len(MOVEMENTS))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    @abc.abstractmethod
    def regressors(self, book_BTLSF: Tensor, valid_BTLS: Tensor | None) -> Tensor:
        """Return the regressors [B, P] of windows; what is absent may hold anything."""

    def forward(self, book_BTLSF: Tensor, valid_BTLS: Tensor | None = None) -> Tensor:
        """Return logits [B, H, K] after the last snapshot; arguments as for `OrderBookModel`.

        Raises
        ------
        InvalidInput
            If a shape does not fit.
        """
        _check(book_BTLSF, valid_BTLS)
        return self._logits(self.regressors(book_BTLSF, valid_BTLS))

    def last_outputs(self, book_BTLSF: Tensor, valid_BTLS: Tensor | None = None) -> Tensor:
        """Return what `forward` does."""
        logits_BHK: Tensor = self(book_BTLSF, valid_BTLS)
        return logits_BHK

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy over the known labels: see `movement_loss`."""
        return movement_loss(outputs, targets)

    @torch.no_grad()
    def predict(self, book_BTLSF: Tensor, valid_BTLS: Tensor | None = None) -> Tensor:
        """Return the probabilities of down, flat and up, [B, H, 3]."""
        return probabilities(self(book_BTLSF, valid_BTLS))

    def fit(self, batches: Iterable[tuple[Tensor, Tensor | None, Tensor]]) -> None:
        """Fit all weights at once, by L-BFGS (Liu and Nocedal 1989) on a convex loss.

        Parameters
        ----------
        batches : iterable
            book_BTLSF, valid_BTLS and label_BH (below 0 or NaN: unknown) of the training range.

        Raises
        ------
        InvalidInput
            If no label is known, or a shape does not fit.
        """
        parts, labels = [], []
        with torch.no_grad():
            for book_BTLSF, valid_BTLS, label_BH in batches:
                _check(book_BTLSF, valid_BTLS)
                parts.append(self.regressors(book_BTLSF, valid_BTLS))
                labels.append(label_BH)
        if not parts or not bool((torch.cat(labels) >= 0).any()):
            raise InvalidInput("the training range has no known label: expected at least one")
        x_NP, label_NH = torch.cat(parts), torch.cat(labels)
        spread_P = x_NP.std(0, correction=0)
        self.get_buffer("centre_P").copy_(x_NP.mean(0))
        self.get_buffer("spread_P").copy_(spread_P.where(spread_P > 0, 1.0))
        optimizer = torch.optim.LBFGS(
            self.linear.parameters(), max_iter=_ITERATIONS, line_search_fn="strong_wolfe"
        )

        def closure() -> float:
            optimizer.zero_grad()
            ridge = _RIDGE * self.linear.weight.square().sum()
            loss = movement_loss(self._logits(x_NP), label_NH) + ridge
            torch.autograd.backward(loss)
            return loss.item()

        optimizer.step(closure)  # type: ignore[no-untyped-call]

    def _logits(self, x_BP: Tensor) -> Tensor:
        scaled_BP = (x_BP - self.get_buffer("centre_P")) / self.get_buffer("spread_P")
        logits: Tensor = self.linear(scaled_BP)
        return logits.reshape(len(x_BP), self.n_horizons, len(MOVEMENTS))


class LogisticImbalance(BookRegression):
    """Reads how much more is bid than asked, at several depths of the last snapshot.

        (bid size - ask size) / (bid size + ask size),   added up over the best 1, 2, 5, ... levels

    between -1 and 1; 0 where there is neither.

    Parameters
    ----------
    n_levels : int
        Levels of the books.
    n_horizons : int
        Horizons.
    scale : SizeScale
        Of the books' sizes.
    """

    def __init__(
        self, n_levels: int = 50, n_horizons: int = 3, scale: SizeScale = AS_IT_IS
    ) -> None:
        self.depths = [depth for depth in DEPTHS if depth <= n_levels]
        super().__init__(len(self.depths), n_horizons)
        self.scale = scale

    def regressors(self, book_BTLSF: Tensor, valid_BTLS: Tensor | None) -> Tensor:
        """Return the imbalances [B, D]."""
        return _imbalances(book_BTLSF, valid_BTLS, self.depths, self.scale)


class LogisticOrderFlow(BookRegression):
    """Reads the order-flow imbalance of the best level, added up over the last 1, 10, ... steps.

    Between two snapshots the flow is

        [P_b >= P_b'] q_b - [P_b <= P_b'] q_b' - [P_a <= P_a'] q_a + [P_a >= P_a'] q_a'

    of prices P and sizes q of the best bid (b) and ask (a), those before marked by ': what was
    added to the bids and taken from the asks (Cont, Kukanov and Stoikov 2014, "The Price Impact of
    Order Book Events", equation 4). A step from or to a snapshot that lacks one of them has none.

    Parameters
    ----------
    n_horizons : int
        Horizons.
    move : int or None
        Place of an input, the same for all levels of a snapshot, that holds the move of the mid
        price since the snapshot before, in the unit of the relative prices: with it, prices that
        are relative to a mid price of their own can be compared. None where the relative prices of
        a window have one reference in common.
    scale : SizeScale
        Of the books' sizes.
    step : float
        Least difference of two prices in the unit of the relative prices, 0 or more. Two that
        differ by less than half of it are equal: what a rounded sum tells apart is no event.
    """

    def __init__(
        self,
        n_horizons: int = 3,
        move: int | None = None,
        scale: SizeScale = AS_IT_IS,
        step: float = 0.0,
    ) -> None:
        super().__init__(len(SPANS), n_horizons)
        self.move, self.scale, self.step = move, scale, step

    def regressors(self, book_BTLSF: Tensor, valid_BTLS: Tensor | None) -> Tensor:
        """Return the sums of order flow [B, P]."""
        flow_BT = _order_flow(book_BTLSF, valid_BTLS, self.move, self.scale, self.step)
        return torch.stack([flow_BT[:, -span:].sum(1) for span in SPANS], 1)


class LogisticState(BookRegression):
    """Reads what needs no search in the book: imbalance, volatility, spread, past moves and flow.

    A model may earn most of its lead over imbalance by knowing how wild the last minutes were, and
    which way an empty place beside the best price will pull the mid price. What it earns over this
    regression is neither. The regressors, of the window's own snapshots alone:

    - the imbalances of `LogisticImbalance`;
    - over the last 1, 5, 10, ... steps: the move of the mid price, the logarithm of 1 and the sum
      of its absolute moves in `step` (realised volatility), and the order flow of
      `LogisticOrderFlow`;
    - the spread of the last snapshot, and by how much the gap between its two best bids is wider
      than that between its two best asks.

    Parameters
    ----------
    n_snapshots : int
        Of a window.
    n_levels : int
        Levels of the books.
    n_horizons : int
        Horizons.
    move : int
        Place of the input that holds the move of the mid price: see `LogisticOrderFlow`.
    scale : SizeScale
        Of the books' sizes.
    step : float
        Least difference of two prices in the unit of the relative prices; 0: unknown, taken as 1
        where a move is measured in it.
    """

    def __init__(
        self,
        n_snapshots: int,
        n_levels: int = 50,
        n_horizons: int = 3,
        move: int = 3,
        scale: SizeScale = AS_IT_IS,
        step: float = 0.0,
    ) -> None:
        self.depths = [depth for depth in DEPTHS if depth <= n_levels]
        self.spans = sorted({min(span, n_snapshots) for span in STATE_SPANS})
        super().__init__(len(self.depths) + 3 * len(self.spans) + 2, n_horizons)
        self.move, self.scale, self.step = move, scale, step

    def regressors(self, book_BTLSF: Tensor, valid_BTLS: Tensor | None) -> Tensor:
        """Return imbalances, moves, volatilities, order flow, spread and gaps, [B, P]."""
        best_BTSF = book_BTLSF[:, :, 0]
        move_BT = best_BTSF[..., BID, self.move]
        if valid_BTLS is not None:  # an absent level holds no move: take the other side's
            bid_BT, ask_BT = valid_BTLS[:, :, 0].unbind(-1)
            move_BT = move_BT.where(bid_BT, best_BTSF[..., ASK, self.move])
            move_BT = move_BT.where(bid_BT | ask_BT, 0.0)
        flow_BT = _order_flow(book_BTLSF, valid_BTLS, self.move, self.scale, self.step)
        far_BT = move_BT.abs() / (self.step or 1.0)
        moves, volatilities, flows = (
            [x_BT[:, -span:].sum(1) for span in self.spans] for x_BT in (move_BT, far_BT, flow_BT)
        )
        state = [*moves, *(sum_B.log1p() for sum_B in volatilities), *flows]
        price_BLS = book_BTLSF[:, -1, :2, :, PRICE]
        there_BLS = torch.ones_like(price_BLS, dtype=torch.bool)
        if valid_BTLS is not None:
            there_BLS = valid_BTLS[:, -1, :2]
        spread_B = price_BLS[:, 0, ASK] - price_BLS[:, 0, BID]
        state.append(spread_B.where(there_BLS[:, 0].all(1), 0.0))
        # Bids fall and asks rise from the first to the second level: the sum is the difference.
        gap_B = (price_BLS[:, 0] - price_BLS[:, -1]).sum(-1)
        state.append(gap_B.where(there_BLS.all((1, 2)), 0.0))
        imbalance_BD = _imbalances(book_BTLSF, valid_BTLS, self.depths, self.scale)
        return torch.cat([imbalance_BD, torch.stack(state, 1)], 1)


def _imbalances(
    book_BTLSF: Tensor, valid_BTLS: Tensor | None, depths: Sequence[int], scale: SizeScale
) -> Tensor:
    """Return the imbalances of the last snapshot, [B, D]."""
    valid_BLS = None if valid_BTLS is None else valid_BTLS[:, -1]
    total_BLS = scale.sizes(book_BTLSF[:, -1, ..., LOG_SIZE], valid_BLS).cumsum(1)
    total_BDS = total_BLS[:, [depth - 1 for depth in depths]]
    both_BD = total_BDS.sum(-1)
    more_BD = total_BDS[..., BID] - total_BDS[..., ASK]
    return more_BD / both_BD.where(both_BD > 0, 1.0)


def _order_flow(
    book_BTLSF: Tensor,
    valid_BTLS: Tensor | None,
    move: int | None,
    scale: SizeScale,
    step: float,
) -> Tensor:
    """Return the flow of each step of a window, [B, T - 1]: see `LogisticOrderFlow`."""
    best_BTSF = book_BTLSF[:, :, 0]
    valid_BTS = None if valid_BTLS is None else valid_BTLS[:, :, 0]
    size_BTS = scale.sizes(best_BTSF[..., LOG_SIZE], valid_BTS)
    price_BTS = best_BTSF[..., PRICE]
    old, new = (slice(None), slice(None, -1)), (slice(None), slice(1, None))
    rise_BTS = price_BTS[new] - price_BTS[old]
    if move is not None:
        rise_BTS = rise_BTS + best_BTSF[new][..., move]
    up_BTS, down_BTS = rise_BTS >= -step / 2, rise_BTS <= step / 2
    bid_BT = up_BTS[..., BID] * size_BTS[new][..., BID]
    bid_BT = bid_BT - down_BTS[..., BID] * size_BTS[old][..., BID]
    ask_BT = down_BTS[..., ASK] * size_BTS[new][..., ASK]
    ask_BT = ask_BT - up_BTS[..., ASK] * size_BTS[old][..., ASK]
    flow_BT = bid_BT - ask_BT
    if valid_BTS is not None:
        whole_BT = valid_BTS.all(-1)
        flow_BT = flow_BT.where(whole_BT[new] & whole_BT[old], 0.0)
    return flow_BT


def _check(book_BTLSF: Tensor, valid_BTLS: Tensor | None) -> None:
    shape: Sequence[int] = book_BTLSF.shape
    if len(shape) != 5 or shape[3] != 2 or shape[4] <= LOG_SIZE:
        raise InvalidInput(
            f"book has the shape {tuple(shape)}: expected [rows, snapshots, levels, 2, inputs]"
        )
    if valid_BTLS is not None and valid_BTLS.shape != shape[:-1]:
        raise InvalidInput(
            f"valid has the shape {tuple(valid_BTLS.shape)}: expected {tuple(shape[:-1])}"
        )
