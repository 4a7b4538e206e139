"""How many models were tried before one was chosen, for the deflated Sharpe ratio."""

import math
from dataclasses import dataclass

from flash_pipeline.backtest import BacktestResult, Trials, moments


@dataclass(frozen=True)
class Tried:
    """The models that were trained before or beside the one that is judged."""

    count: int
    """Models trained, the judged one included, a count. Models that resemble one another count
    each, which errs on the strict side."""
    sharpes_annual: tuple[float, ...]
    """Annualised Sharpe ratios of the others' backtests, as far as they are known."""

    @property
    def told(self) -> str:
        """What is counted, in words."""
        known = len(self.sharpes_annual) + 1
        models = f"{self.count:,} model{'s' if self.count > 1 else ''} trained in the experiment"
        if known == 1:
            return f"{models}; no other one has a backtest"
        return (
            f"{models}; the variance is that of the Sharpe ratios of {known:,} of them, and at "
            "least that of luck"
        )

    def with_own(self, result: BacktestResult, bars_per_year: float) -> Trials:
        """Return the trials, the judged model's own backtest among them.

        The others' ratios are brought from a year to a bar of this backtest.
        """
        annual = math.sqrt(bars_per_year)
        own = moments(result.returns_T).sharpe_per_bar
        others = [sharpe / annual for sharpe in self.sharpes_annual]
        return Trials.of(self.count, [own, *others], len(result.returns_T))
