"""Any number of simulated instruments, for measuring what a wide panel costs.

The fixed listings come first; each further one is a pure function of the seed and its index, so a
wider exchange serves the same candles as a narrower one.
"""

from decimal import Decimal

import numpy as np

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.exchange.instruments import QUOTE_COIN, Instrument
from flash_pipeline.exchange.simulation.asset import AssetSpec
from flash_pipeline.exchange.simulation.chunks import HOUR_MS, random_stream
from flash_pipeline.exchange.simulation.listings import LISTINGS
from flash_pipeline.market import parse_instant

MOST_INSTRUMENTS = 600
"""Instruments that one exchange lists at most: more than a page of them holds by default."""

_EARLY = (parse_instant("2020-09-01"), parse_instant("2023-06-01"))
_LATE = (parse_instant("2023-08-01"), parse_instant("2025-12-01"))
_DELISTED = (parse_instant("2023-10-01"), parse_instant("2026-02-01"))
_DAY_MS = 24 * HOUR_MS


def listings(seed: int, count: int) -> tuple[AssetSpec, ...]:
    """Return `count` listings: the fixed ones, and generated ones named SYN000USDT and on.

    Of the generated ones every tenth is listed late, and every twentieth is delisted again.

    Raises
    ------
    InvalidConfig
        If `count` is less than the fixed listings or more than `MOST_INSTRUMENTS`.
    """
    if not len(LISTINGS) <= count <= MOST_INSTRUMENTS:
        raise InvalidConfig(
            f"{count} instruments cannot be listed: expected {len(LISTINGS)} to {MOST_INSTRUMENTS}"
        )
    return (*LISTINGS, *(_generate(seed, index) for index in range(count - len(LISTINGS))))


def _generate(seed: int, index: int) -> AssetSpec:
    random = random_stream(seed, "listings", "generated", index)
    anchor = float(10.0 ** random.uniform(-2, 3))
    early, late = random.integers(*_EARLY), random.integers(*_LATE)
    launch = int(late if index % 10 == 9 else early)
    end = int(random.integers(*_DELISTED))
    magnitude = int(np.floor(np.log10(anchor)))
    instrument = Instrument(
        f"SYN{index:03d}{QUOTE_COIN}",
        launch_ms=launch - launch % HOUR_MS,
        tick_size=Decimal(1).scaleb(magnitude - 4),
        quantity_step=Decimal(1).scaleb(-magnitude),
        funding_minutes=int(random.choice([480, 480, 240, 60])),
        delist_ms=end - end % _DAY_MS if index % 20 == 4 else None,
    )
    return AssetSpec(
        instrument,
        anchor=anchor,
        beta=float(random.uniform(0.7, 1.6)),
        volatility=float(random.uniform(0.4, 1.0)),
        daily_turnover=float(10.0 ** random.uniform(6.5, 8.5)),
    )
