"""The simulated market as a source of the exchange."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.exchange.candles import NO_CANDLES, Candles, join_candles
from flash_pipeline.exchange.instruments import Instrument
from flash_pipeline.exchange.simulation.asset import Asset, AssetSpec
from flash_pipeline.exchange.simulation.chunks import chunk_at
from flash_pipeline.exchange.simulation.factor import Factor
from flash_pipeline.exchange.simulation.flow_model import Lean
from flash_pipeline.exchange.simulation.funding import funding_rate
from flash_pipeline.exchange.simulation.listings import (
    LISTINGS,
    MARKET_VOLATILITY,
    SECTOR_VOLATILITY,
)
from flash_pipeline.exchange.simulation.minutes import minute_candles
from flash_pipeline.exchange.simulation.order_flow import OrderFlow
from flash_pipeline.exchange.source import CandleRequest, FundingRate, listed_instrument
from flash_pipeline.market import Interval
from flash_pipeline.market.interval import MINUTE_MS

DEFAULT_SEED = 20200325
"""Seed of the embedded exchange unless one is given: every process then serves one history."""

_CACHED_FROM = Interval.MIN_15
"""Candles from this length on are cached by chunk; finer ones would take much memory."""

_KEPT_FLOWS = 16  # order books: up to 30 MB each, those asked for last


class SimulatedMarket:
    """A market that never was: a pure function of seed, symbol and absolute time.

    Two instances of one seed give the same numbers, whatever each was asked before. Prices are a
    martingale but for a pull that takes years (see `Asset`), so there is no return to predict;
    what the candles do show is what Cont lists as stylised facts ("Empirical properties of asset
    returns", Quantitative Finance, 2001): fat tails, clustered volatility, volume that follows
    it, and correlated assets.

    Time goes by whole minutes: of the minute under way only its opening price is known.

    Parameters
    ----------
    seed : int
        0 or more.
    listings : sequence of AssetSpec
        What to simulate; nothing is computed before it is asked for.
    lean : Lean or None
        How the order flow foretells the price; None for `Lean()`.

    Raises
    ------
    InvalidConfig
        If the seed is negative.
    """

    kind = "simulated"

    def __init__(
        self,
        seed: int = DEFAULT_SEED,
        listings: Sequence[AssetSpec] = LISTINGS,
        lean: Lean | None = None,
    ) -> None:
        if seed < 0:
            raise InvalidConfig(f"seed {seed} cannot be used: expected 0 or more")
        self.seed = seed
        self._lean = lean
        self._specs = {spec.instrument.symbol: spec for spec in listings}
        self._instruments = {name: self._specs[name].instrument for name in sorted(self._specs)}
        self._market = Factor(seed, "market", MARKET_VOLATILITY)
        sectors = sorted({spec.sector for spec in listings} - {""})
        self._sectors = {s: Factor(seed, f"sector {s}", SECTOR_VOLATILITY) for s in sectors}
        self._asset = lru_cache(maxsize=None)(self._make_asset)
        self._minutes = lru_cache(maxsize=8)(self._make_minutes)
        self._coarse = lru_cache(maxsize=256)(self._make_coarse)
        self._flow = lru_cache(maxsize=_KEPT_FLOWS)(self._make_flow)

    @property
    def description(self) -> str:
        """One line for people on where the numbers come from."""
        return f"SYNTHETIC market of seed {self.seed}: {len(self._specs)} instruments"

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        """Every simulated contract by its symbol."""
        return self._instruments

    def candles(self, request: CandleRequest, now: int) -> Candles:
        """Return candles in coins, oldest first; the forming one is made of the minutes so far.

        Raises
        ------
        InvalidSymbol
            If the symbol is not simulated.
        """
        instrument = listed_instrument(self, request.symbol)
        interval = request.interval
        last = interval.floor(instrument.last_traded(min(request.last, now)))
        newest = last - (request.limit - 1) * interval.milliseconds
        first = max(interval.floor(max(request.first, instrument.launch_ms)), newest)
        if now < instrument.launch_ms or last < first:
            return NO_CANDLES
        chunks = range(chunk_at(first), chunk_at(last) + 1)
        parts = [self._chunk(request.symbol, chunk, interval) for chunk in chunks]
        candles = join_candles(parts).between(first, last)
        if last + interval.milliseconds > now:
            candles = join_candles([candles[:-1], self._forming(request.symbol, interval, now)])
        return candles.in_coins(instrument)

    def funding(
        self, symbol: str, first: int, last: int, limit: int, now: int
    ) -> Sequence[FundingRate]:
        """Return the newest `limit` settlements from `first` to `last` (ms), oldest first.

        Raises
        ------
        InvalidSymbol
            If the symbol is not simulated.
        """
        instrument = listed_instrument(self, symbol)
        step = instrument.funding_minutes * MINUTE_MS
        newest = instrument.last_traded(min(last, now)) // step
        oldest = max(-(-first // step), instrument.launch_ms // step + 1, newest - limit + 1)
        asset = self._asset(symbol)
        return [
            FundingRate(number * step, funding_rate(asset, self.seed, number * step))
            for number in range(oldest, newest + 1)
        ]

    def last_price(self, symbol: str, now: int) -> float | None:
        """Return the opening price of the minute under way; None before the listing.

        Of a delisted symbol the last close remains.

        Raises
        ------
        InvalidSymbol
            If the symbol is not simulated.
        """
        at = listed_instrument(self, symbol).last_traded(now)
        candles = self.candles(CandleRequest(symbol, Interval.MIN_1, at, at, 1), now)
        return float(candles.close[-1]) if len(candles) else None

    def order_flow(self, symbol: str) -> OrderFlow:
        """Return the order book of a symbol.

        Raises
        ------
        InvalidSymbol
            If the symbol is not simulated.
        """
        return self._flow(listed_instrument(self, symbol).symbol)

    def _chunk(self, symbol: str, chunk: int, interval: Interval) -> Candles:
        if interval.minutes >= _CACHED_FROM.minutes:
            return self._coarse(symbol, chunk, interval)
        return self._make_coarse(symbol, chunk, interval)

    def _forming(self, symbol: str, interval: Interval, now: int) -> Candles:
        """Return the candle under way, in ticks and steps, from nothing later than `now`."""
        start, minute = interval.floor(now), Interval.MIN_1.floor(now)
        minutes = self._minutes(symbol, chunk_at(now)).between(start, minute)
        current = minutes[-1:]
        nothing = np.zeros_like(current.volume)
        opened = Candles(current.start_time, *(current.open,) * 4, nothing, nothing)
        return join_candles([minutes[:-1], opened]).aggregate(interval)

    def _make_asset(self, symbol: str) -> Asset:
        spec = self._specs[symbol]
        return Asset(self.seed, spec, self._market, self._sectors.get(spec.sector))

    def _make_flow(self, symbol: str) -> OrderFlow:
        return OrderFlow(self._asset(symbol), self.seed, self._lean)

    def _make_minutes(self, symbol: str, chunk: int) -> Candles:
        return minute_candles(self._asset(symbol), self.seed, chunk)

    def _make_coarse(self, symbol: str, chunk: int, interval: Interval) -> Candles:
        return self._minutes(symbol, chunk).aggregate(interval)
