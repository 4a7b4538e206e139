"""What a trade costs."""

import math
from dataclasses import dataclass, fields

from flash_pipeline.errors import InvalidConfig

MAX_RATE = 0.05
"""Above 5 % of the notional a rate is taken for a slip of units, such as basis points."""


@dataclass(frozen=True)
class Costs:
    """Costs of a trade, each as a fraction of the traded notional.

    Raises
    ------
    InvalidConfig
        If a rate is not a number from 0 to `MAX_RATE`.
    """

    fee_rate: float = 0.00055
    """Exchange fee; the default is Bybit's taker fee for linear perpetuals, without discount."""
    slippage_rate: float = 0.0002
    """Distance between the bar's open and the fill: half the spread and the market impact."""

    def __post_init__(self) -> None:
        for field in fields(self):
            rate = getattr(self, field.name)
            if not (math.isfinite(rate) and 0 <= rate <= MAX_RATE):
                raise InvalidConfig(
                    f"{field.name} is {rate!r}: expected a fraction from 0 to {MAX_RATE}"
                )

    @property
    def rate(self) -> float:
        """Both together, a fraction of the traded notional.

        Examples
        --------
        >>> Costs(fee_rate=0.001, slippage_rate=0.0005).rate
        0.0015
        """
        return self.fee_rate + self.slippage_rate
