"""Any number of simulated instruments: a whole market of sectors, newcomers and delistings.

The fixed listings come first and belong to no sector; each further one is a pure function of the
seed and its index, so a wider exchange serves the same candles as a narrower one.
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

SECTORS = ("chains", "exchanges", "games", "lending", "memes", "payments")
"""Sectors of the generated instruments: each has a factor of its own beside the market's."""

_POPULAR_MILLIONS = (300, 900)  # daily turnover of those that come and go with much trade
_FIRST_NEWCOMER, _FIRST_LEAVER = parse_instant("2024-09-02"), parse_instant("2024-10-14")
_BETWEEN_MS = 182 * _DAY_MS


def listings(seed: int, count: int) -> tuple[AssetSpec, ...]:
    """Return `count` listings: the fixed ones, and generated ones named SYN000USDT and on.

    Of the generated ones every tenth is listed late and every twentieth is delisted again, at
    random dates. Two more of ten are popular and come or go on fixed ones: SYN006, SYN016, ... are
    launched, and SYN003, SYN013, ... delisted, half a year apart from autumn 2024 on.

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
    delisted: int | None = end - end % _DAY_MS if index % 20 == 4 else None
    funding_minutes = int(random.choice([480, 480, 240, 60]))
    beta, volatility = float(random.uniform(0.7, 1.6)), float(random.uniform(0.4, 1.0))
    daily_turnover = float(10.0 ** random.uniform(6.5, 8.5))
    sector, sector_beta = str(random.choice(SECTORS)), float(random.uniform(0.6, 1.4))
    if index % 10 == 6:
        launch = _FIRST_NEWCOMER + index // 10 * _BETWEEN_MS
    if index % 10 == 3:
        delisted = _FIRST_LEAVER + index // 10 * _BETWEEN_MS
    if index % 10 in (3, 6):
        daily_turnover = 1e6 * float(random.uniform(*_POPULAR_MILLIONS))
    magnitude = int(np.floor(np.log10(anchor)))
    instrument = Instrument(
        f"SYN{index:03d}{QUOTE_COIN}",
        launch_ms=launch - launch % HOUR_MS,
        tick_size=Decimal(1).scaleb(magnitude - 4),
        quantity_step=Decimal(1).scaleb(-magnitude),
        funding_minutes=funding_minutes,
        delist_ms=delisted,
    )
    return AssetSpec(
        instrument,
        anchor=anchor,
        beta=beta,
        volatility=volatility,
        daily_turnover=daily_turnover,
        sector=sector,
        sector_beta=sector_beta,
    )
