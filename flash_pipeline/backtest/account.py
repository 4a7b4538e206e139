"""The account that trades: its size, its limits, and what the exchange lets it order.

S symbols
"""

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from flash_pipeline.backtest.prices import FloatArray
from flash_pipeline.errors import InvalidConfig, InvalidInput


@dataclass(frozen=True, eq=False)
class Lots:
    """The smallest orders and steps of each symbol, in the order of the prices' columns.

    Raises
    ------
    InvalidConfig
        If a value is negative or not finite, or the lengths differ.
    """

    qty_step_S: FloatArray
    """Orders are multiples of it, base coin; 0 for any quantity."""
    min_qty_S: FloatArray
    """Smallest order, base coin."""
    min_notional_S: FloatArray
    """Smallest order, quote coin. An order that closes a position is free of both minima."""

    def __post_init__(self) -> None:
        lengths = set()
        for name in ("qty_step_S", "min_qty_S", "min_notional_S"):
            value_S = np.asarray(getattr(self, name), dtype=np.float64)
            if not np.all(np.isfinite(value_S) & (value_S >= 0)):
                raise InvalidConfig(f"{name} is {value_S.tolist()}: expected numbers from 0 on")
            object.__setattr__(self, name, value_S)
            lengths.add(value_S.shape)
        if len(lengths) != 1:
            raise InvalidConfig(f"lots have the shapes {sorted(lengths)}: expected one per symbol")

    @classmethod
    def from_instruments(
        cls, table: pa.Table, symbols: tuple[str, ...], *, unlisted: bool = False
    ) -> "Lots":
        """Take the lots of the symbols from the instruments' table.

        Parameters
        ----------
        table : pa.Table
            Columns `symbol`, `qty_step`, `min_order_qty` and `min_notional_value`; a null of the
            last, as before 2024, sets no minimum.
        symbols : tuple of str
            The prices' columns.
        unlisted : bool
            Whether a symbol that is not in the table trades any fraction.

        Raises
        ------
        InvalidInput
            If a symbol is not in the table, unless `unlisted`.
        """
        rows = {row["symbol"]: row for row in table.to_pylist()}
        missing = [symbol for symbol in symbols if symbol not in rows]
        if missing and not unlisted:
            raise InvalidInput(f"no instrument of {', '.join(missing)}")
        names = ("qty_step", "min_order_qty", "min_notional_value")
        known = [rows.get(symbol, {}) for symbol in symbols]
        return cls(*(np.array([row.get(name) or 0.0 for row in known]) for name in names))


@dataclass(frozen=True, eq=False)
class Account:
    """What bounds the orders beside the targets.

    Raises
    ------
    InvalidConfig
        If the capital is not above 0, or the maintenance rate not from 0 to below 1.
    """

    capital: float = 10_000.0
    """Starting equity, quote coin. It matters where size does: for impact and lots."""
    maintenance_rate: float = 0.005
    """Margin that the exchange keeps, a fraction of the notional; the default is Bybit's lowest
    tier of the large symbols. At or below it the whole account is liquidated."""
    lots: Lots | None = None
    """Steps and minima of orders; None trades any fraction."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.capital) and self.capital > 0):
            raise InvalidConfig(f"capital is {self.capital!r}: expected a number above 0")
        if not 0 <= self.maintenance_rate < 1:
            raise InvalidConfig(
                f"maintenance_rate is {self.maintenance_rate!r}: expected 0 to below 1"
            )
