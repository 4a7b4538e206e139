"""The parameters of the simulated order flow.

Rates and their decay are those that Cont, Stoikov and Talreja give for a stock of Tokyo's exchange
("A stochastic model for order book dynamics", Operations Research 58 (3), 2010, the table of
estimated parameters; compared with public programs that quote it, not with the print), per side:
limit orders arrive `i` steps from the other side's best price at a Poisson rate lambda(i), each
rests until it is cancelled at the rate theta(i) or hit by a market order, all of one size. Beyond
the fifth step lambda is their power law; they give no theta there, so it falls as lambda does,
which keeps the mean queue and lets orders far away rest for longer.
"""

from dataclasses import dataclass

import numpy as np

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.exchange.simulation.chunks import Floats

MARKET_RATE = 0.94
"""Market orders per second and side (mu)."""

BANDS = ((0, 96), (96, 320), (320, 768), (768, 2048))
"""Distances, in price steps, that share one random stream; deeper books need more of them."""

LONGEST_S = 60.0
"""No order rests longer, in seconds: an order book is then a function of its last minute."""

_LIMIT = (1.85, 1.51, 1.09, 0.88, 0.77)
_CANCEL = (0.71, 0.81, 0.68, 0.56, 0.47)
_LIMIT_SCALE, _LIMIT_POWER = 1.92, 0.52


def _by_distance(near: tuple[float, ...], scale: float) -> Floats:
    distance = np.arange(1, BANDS[-1][1] + 1)
    rates = scale * (distance / len(near)) ** -_LIMIT_POWER
    rates[: len(near)] = near
    return np.asarray(rates)


LIMIT_RATE = _by_distance(_LIMIT, _LIMIT_SCALE * len(_LIMIT) ** -_LIMIT_POWER)
"""Limit orders per second, side and step of distance (lambda), [distances]."""

CANCEL_RATE = _by_distance(_CANCEL, _CANCEL[-1])
"""Cancellations per second and resting order (theta), [distances]."""

HIT_RATE = MARKET_RATE * CANCEL_RATE[0] / LIMIT_RATE[0]
"""Market orders per second and order at the best price: mu over the mean queue there."""


@dataclass(frozen=True)
class Lean:
    """How the order flow leans towards the side of the price's next move: what is to be learnt.

    Each order of the distances `near` goes to the bid with probability (1 + s tanh(z)) / 2, where
    s is the `strength` and z a standard normal process. While a gate is open (half of the time,
    drawn anew for every `gate_s`) z has the correlation `information` with the log return of the
    next `lead_s`; while it is closed z is noise of the same kind. Orders of the distances `deep`
    lean the same way `lag_s` earlier where the gate will be open, and the opposite way where it
    will be closed. So the near imbalance foretells the price, about twice as well where the deep
    one of `lag_s` before agrees with it, and not at all where that disagrees.

    Measured on BTCUSDT, 2026-03-10, by the second, as the correlation with the mid price's move
    over 10 s: imbalance of levels 2 to 9, 0.27; of the deep levels 11 to 25 five seconds before,
    0.23; the former where both agree, 0.47, and where they disagree, 0.04. Without a lean: 0.00.
    These are of a volatile day. The quieter the hour, the more of the mid price's moves are places
    beside the best price that empty and fill again: the first of them was 0.07, 0.15, 0.17 and 0.28
    in the first three hours of 1, 4, 8 and 9 March.

    The price path is made first, so that the book agrees with the candles; for a Gaussian path
    that is the same in law as a price whose drift follows z. The touch itself does not lean: a
    side that starves there would move the price before the price does.

    Raises
    ------
    InvalidConfig
        If a value is out of its range.
    """

    strength: float = 0.8
    """Lean of the flow, 0 (none) to 1."""
    information: float = 0.9
    """Correlation of z with the return over `lead_s` while the gate is open, 0 to 1."""
    lead_s: float = 10.0
    """Seconds ahead that z knows of, a multiple of the price path's step."""
    lag_s: float = 5.0
    """Seconds by which the deep side of the book comes first."""
    gate_s: float = 30.0
    """Seconds for which the gate stays as it is."""
    near: tuple[int, int] = (2, 10)
    """Distances from the best price, in steps, that lean with z; the last one excluded."""
    deep: tuple[int, int] = (12, 30)
    """Distances that lean with z of `lag_s` later."""

    def __post_init__(self) -> None:
        if not (0 <= self.strength <= 1 and 0 <= self.information <= 1):
            raise InvalidConfig(
                f"strength {self.strength} and information {self.information} cannot be used: "
                "expected 0 to 1 each"
            )
        if not (self.lead_s > 0 and self.lag_s >= 0 and self.gate_s > 0):
            raise InvalidConfig(
                f"lead {self.lead_s} s, lag {self.lag_s} s, gate {self.gate_s} s cannot be used: "
                "expected more than 0, 0 or more, more than 0"
            )


NO_LEAN = Lean(strength=0.0)
"""A flow that knows nothing of the price, for comparison."""
