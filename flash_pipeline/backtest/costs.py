"""What a trade costs."""

import math
from dataclasses import dataclass

from flash_pipeline.errors import InvalidConfig

MAX_RATE = 0.05
"""Above 5 % of the notional a rate is taken for a slip of units, such as basis points."""

MAX_IMPACT = 10.0
"""Above this the coefficient of the square-root law is taken for one in other units."""


@dataclass(frozen=True)
class Costs:
    """Costs of a trade; rates are fractions of the traded notional.

    Raises
    ------
    InvalidConfig
        If a rate is not a number from 0 to `MAX_RATE`, the share of maker fills not one from 0 to
        1, or the impact not one from 0 to `MAX_IMPACT`.
    """

    fee_rate: float = 0.00055
    """Taker fee; the default is Bybit's for linear perpetuals, without discount."""
    slippage_rate: float = 0.0002
    """Distance between the bar's open and the fill, fixed: half the spread. Maker fills pay it
    too: they are hit when the price moves against them."""
    maker_fee_rate: float = 0.0002
    """Maker fee; the default is Bybit's for linear perpetuals, without discount."""
    maker_share: float = 0.0
    """Part of the traded notional that rests in the book and is filled as maker, 0 to 1."""
    impact: float = 0.0
    """Coefficient of the square-root law, about 1 by measurement; 0 charges none, the default, as
    the impact of small orders is lost in the spread. See `impact.impact_scale`."""

    def __post_init__(self) -> None:
        bounds = {
            "fee_rate": MAX_RATE,
            "slippage_rate": MAX_RATE,
            "maker_fee_rate": MAX_RATE,
            "maker_share": 1.0,
            "impact": MAX_IMPACT,
        }
        for name, most in bounds.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= most):
                raise InvalidConfig(f"{name} is {value!r}: expected a number from 0 to {most:g}")

    @property
    def mean_fee_rate(self) -> float:
        """Fee of the mix of maker and taker fills, a fraction of the traded notional.

        Examples
        --------
        >>> round(Costs(maker_share=0.5).mean_fee_rate, 7)
        0.000375
        """
        return self.maker_share * self.maker_fee_rate + (1 - self.maker_share) * self.fee_rate

    @property
    def rate(self) -> float:
        """Fee and slippage together, a fraction of the traded notional; impact comes on top.

        Examples
        --------
        >>> Costs(fee_rate=0.001, slippage_rate=0.0005).rate
        0.0015
        """
        return self.mean_fee_rate + self.slippage_rate
