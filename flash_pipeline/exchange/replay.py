"""A recorded market as a source of the exchange."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from flash_pipeline.errors import InvalidInterval
from flash_pipeline.exchange.candles import Candles, join_candles
from flash_pipeline.exchange.forming import partial_candle
from flash_pipeline.exchange.inference import infer_instrument
from flash_pipeline.exchange.instruments import Instrument
from flash_pipeline.exchange.recordings import (
    find_recordings,
    read_candle_file,
    read_funding_file,
)
from flash_pipeline.exchange.source import CandleRequest, FundingRate, listed_instrument
from flash_pipeline.market import Interval, iso_utc


class ReplayedMarket:
    """A market that was: the candles and funding rates of a folder, to the last digit.

    Parameters
    ----------
    folder : Path
        Holds `{SYMBOL}_{INTERVAL}.parquet` and `{SYMBOL}_funding.parquet` (see `recordings`).
        All files are read at once, so that a bad one is reported before the exchange serves.

    Raises
    ------
    InvalidInput
        If the folder is missing, empty or has a misnamed file.
    DataError
        If a file cannot serve as a recording.
    """

    kind = "replay"

    def __init__(self, folder: Path) -> None:
        candle_paths, funding_paths = find_recordings(folder)
        self._folder = folder
        self._recorded: dict[str, dict[Interval, Candles]] = {}
        for (symbol, interval), path in candle_paths.items():
            candles = read_candle_file(path, interval)
            self._recorded.setdefault(symbol, {})[interval] = candles
        self._funding = {symbol: read_funding_file(path) for symbol, path in funding_paths.items()}
        self._instruments = {
            symbol: infer_instrument(symbol, files[_finest(files)], self._funding.get(symbol, []))
            for symbol, files in sorted(self._recorded.items())
        }

    @property
    def description(self) -> str:
        """One line for people on where the numbers come from."""
        files = [candles for each in self._recorded.values() for candles in each.values()]
        first = min(int(candles.start_time[0]) for candles in files)
        last = max(int(candles.start_time[-1]) for candles in files)
        return (
            f"REPLAY of {self._folder}: {len(self._recorded)} instruments, "
            f"candles of {iso_utc(first)} to {iso_utc(last)}"
        )

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        """Every recorded contract by its symbol, its steps inferred from its candles."""
        return self._instruments

    def candles(self, request: CandleRequest, now: int) -> Candles:
        """Return recorded candles, or coarser ones made of them, oldest first.

        The forming candle is made up: the recorded one's part in proportion to the time gone by
        (see `partial_candle`). Values of closed candles are those of the file; sums of coarser
        ones are plain float sums.

        Raises
        ------
        InvalidSymbol
            If the symbol is not recorded.
        InvalidInterval
            If only coarser candles are recorded.
        """
        instrument = listed_instrument(self, request.symbol)
        base = self._base(request.symbol, request.interval)
        first = request.interval.floor(request.first)
        end = request.interval.floor(request.last) + request.interval.milliseconds
        recorded = self._recorded[request.symbol][base]
        known = recorded.between(first, min(end - 1, now))
        if len(known) and known.start_time[-1] + base.milliseconds > now:
            elapsed = (now - int(known.start_time[-1])) / base.milliseconds
            partial = partial_candle(known[-1:], elapsed, instrument)
            known = join_candles([known[:-1], partial])
        return known.aggregate(request.interval)[-request.limit :]

    def funding(
        self, symbol: str, first: int, last: int, limit: int, now: int
    ) -> Sequence[FundingRate]:
        """Return the newest `limit` recorded settlements from `first` to `last`, oldest first.

        Raises
        ------
        InvalidSymbol
            If the symbol is not recorded.
        """
        listed_instrument(self, symbol)
        rates = self._funding.get(symbol, [])
        return [rate for rate in rates if first <= rate.time_ms <= min(last, now)][-limit:]

    def last_price(self, symbol: str, now: int) -> float | None:
        """Return the close of the newest known candle; None before the first.

        Raises
        ------
        InvalidSymbol
            If the symbol is not recorded.
        """
        listed_instrument(self, symbol)
        base = _finest(self._recorded[symbol])
        candles = self.candles(CandleRequest(symbol, base, 0, now, 1), now)
        return float(candles.close[-1]) if len(candles) else None

    def order_flow(self, symbol: str) -> None:
        """Return None: no order book was recorded."""
        listed_instrument(self, symbol)

    def _base(self, symbol: str, interval: Interval) -> Interval:
        """Return the coarsest recorded interval that candles of `interval` can be made of."""
        recorded = self._recorded[symbol]
        bases = [base for base in recorded if interval.minutes % base.minutes == 0]
        if not bases:
            finest = _finest(recorded).value
            raise InvalidInterval(
                f"interval {interval.value!r} of {symbol} is not in this replay: "
                f"its candles are of interval {finest}"
            )
        return max(bases, key=lambda base: base.minutes)


def _finest(files: Mapping[Interval, Candles]) -> Interval:
    return min(files, key=lambda interval: interval.minutes)
