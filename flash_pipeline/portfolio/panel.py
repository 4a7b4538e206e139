"""The hours of a market side by side: prices, inputs of the model, and who is there.

Shape letters: T hours, A assets, F inputs.

Nothing is ever filled. What a candle does not tell is NaN, and a token whose inputs are not all
known, or whose asset is no member of the market in that hour, is absent: `present` is False.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from flash_pipeline.errors import FileDamaged, NotEnoughHistory, SchemaMismatch
from flash_pipeline.market import Interval, Month, iso_utc
from flash_pipeline.portfolio.universe import (
    HOUR_MS,
    Bools,
    Floats,
    Times,
    UniverseConfig,
    membership,
)
from flash_pipeline.storage.files import write_parquet
from flash_pipeline.storage.klines import KlineStore

FEATURES = ("log_return", "volatility", "price_ma_ratio", "turnover_ma_ratio")
"""Inputs of a token, in order; see `features`."""

WARMUP_HOURS = 24
"""Candles before an hour that its inputs are made of."""

_PRICES = ("open", "high", "low", "close", "turnover")
_FORMAT = b"market-panel-1"


@dataclass(frozen=True, eq=False)
class MarketPanel:
    """Candles of many assets on one grid of consecutive hours."""

    symbols: tuple[str, ...]
    """Order of the asset axis."""
    start_time_T: Times
    """Open of each hour, ms since the epoch, UTC; every step is an hour."""
    open_TA: Floats
    """First price, quote coin; NaN where there is no candle, as in the other four."""
    high_TA: Floats
    """Highest price, quote coin."""
    low_TA: Floats
    """Lowest price, quote coin."""
    close_TA: Floats
    """Last price, quote coin."""
    turnover_TA: Floats
    """Value traded, quote coin."""
    member_TA: Bools
    """Whether the asset belongs to the market in the hour."""
    x_TAF: npt.NDArray[np.float32]
    """Inputs of `FEATURES`, unscaled; NaN where not known."""
    synthetic: bool
    """Whether a simulator made the candles."""

    @property
    def present_TA(self) -> Bools:
        """Where there is a token: a member whose inputs are all known."""
        return np.asarray(self.member_TA & np.isfinite(self.x_TAF).all(axis=2))

    @property
    def snapshot(self) -> str:
        """Hash of all that the panel holds: 16 hexadecimal digits."""
        digest = hashlib.sha256("\n".join((*self.symbols, str(self.synthetic))).encode())
        for array in (self.start_time_T, *self._columns().values(), self.member_TA, self.x_TAF):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def made_at(self, row: int) -> int:
        """Return the close of an hour, when a decision on it is made: ms since the epoch."""
        return int(self.start_time_T[row]) + HOUR_MS

    def forward_returns(self, hours: int) -> Floats:
        """Return what a unit decided at each hour's close earns, a simple return.

        Filled at the next hour's open t + 1 and sold at the open `hours` later:
        `open[t + 1 + hours] / open[t + 1] - 1`.

        Parameters
        ----------
        hours : int
            At least 1. The return of hour t is known at the open of hour t + 1 + hours.

        Returns
        -------
        array [T, A]
            NaN where either open is absent, as for the last hours and across a delisting.
        """
        y_TA = np.full(self.open_TA.shape, np.nan)
        y_TA[: -hours - 1] = self.open_TA[1 + hours :] / self.open_TA[1:-hours] - 1
        return y_TA

    def columns(self, symbols: Sequence[str]) -> "MarketPanel":
        """Return the panel of other columns, in their order: those of a trained model.

        A symbol that the panel lacks is a column without candles: absent in every hour, as
        documented, so that the others keep their places.

        Raises
        ------
        NotEnoughHistory
            If the panel has none of the symbols.
        """
        place = {symbol: a for a, symbol in enumerate(self.symbols)}
        index_A = np.array([place.get(symbol, -1) for symbol in symbols])
        if not len(index_A) or (index_A < 0).all():
            raise NotEnoughHistory(
                f"no candle of {', '.join(symbols[:5])} is in the panel of {len(self.symbols)} "
                "assets: expected some of the assets that the model was trained on"
            )

        def taken(array: npt.NDArray[Any], nothing: float) -> npt.NDArray[Any]:
            picked = array[:, index_A].copy()
            picked[:, index_A < 0] = nothing
            return picked

        parts: dict[str, Any] = {
            f"{name}_TA": taken(values, np.nan) for name, values in self._columns().items()
        }
        return dataclasses.replace(
            self,
            symbols=tuple(symbols),
            member_TA=taken(self.member_TA, False),
            x_TAF=taken(self.x_TAF, np.nan),
            **parts,
        )

    def since(self, row: int) -> "MarketPanel":
        """Return the panel from a row on."""
        parts = {
            each.name: getattr(self, each.name)[row:]
            for each in dataclasses.fields(self)
            if each.name.endswith(("_T", "_TA", "_TAF"))
        }
        return dataclasses.replace(self, **parts)

    def save(self, path: Path) -> None:
        """Write the panel as one Parquet file, a row an hour, whole or not at all."""
        n_assets = len(self.symbols)
        columns = {"start_time": pa.array(self.start_time_T)}
        laid: Mapping[str, npt.NDArray[np.generic]] = {
            **self._columns(), "member": self.member_TA, "x": self.x_TAF
        }  # fmt: skip
        for name, array in laid.items():
            flat = pa.array(np.ascontiguousarray(array).reshape(-1))
            width = n_assets * (len(FEATURES) if name == "x" else 1)
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, width)
        marks = {
            b"format": _FORMAT,
            b"symbols": ",".join(self.symbols).encode(),
            b"features": ",".join(FEATURES).encode(),
            b"synthetic": str(self.synthetic).encode(),
        }
        write_parquet(pa.table(columns).replace_schema_metadata(marks), path)

    @classmethod
    def load(cls, path: Path) -> "MarketPanel":
        """Read a panel.

        Raises
        ------
        NotEnoughHistory
            If there is no file.
        FileDamaged
            If it cannot be read.
        SchemaMismatch
            If it is of another format or has other inputs.
        """
        if not path.is_file():
            raise NotEnoughHistory(f"{path} is not there: materialize market_panel first")
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise FileDamaged(f"{path} cannot be read: {error}") from error
        marks = table.schema.metadata or {}
        features = tuple(marks.get(b"features", b"").decode().split(","))
        if marks.get(b"format") != _FORMAT or features != FEATURES:
            raise SchemaMismatch(
                f"{path} has the format {marks.get(b'format', b'').decode()!r} and the inputs "
                f"{', '.join(features)}: expected {_FORMAT.decode()!r} and {', '.join(FEATURES)}"
            )
        symbols = tuple(marks[b"symbols"].decode().split(","))
        shape = (table.num_rows, len(symbols))

        def laid(name: str) -> npt.NDArray[Any]:
            flat = table[name].combine_chunks().flatten()
            return np.asarray(flat.to_numpy(zero_copy_only=False))

        return cls(
            symbols,
            table["start_time"].to_numpy(),
            **{f"{name}_TA": laid(name).reshape(shape) for name in _PRICES},
            member_TA=laid("member").reshape(shape),
            x_TAF=laid("x").reshape(*shape, len(FEATURES)),
            synthetic=marks[b"synthetic"] == b"True",
        )

    def _columns(self) -> dict[str, Floats]:
        return {name: getattr(self, f"{name}_TA") for name in _PRICES}


def features(close_TA: Floats, turnover_TA: Floats) -> npt.NDArray[np.float32]:
    """Return the inputs of each hour and asset, [T, A, F], from that hour and those before.

    `log_return` of the hour; `volatility`, its sample deviation over 24 hours; `price_ma_ratio`,
    the log of the close over its mean of 24 hours; `turnover_ma_ratio`, the log of the turnover
    over its mean of 24 hours. NaN where one of the 25 candles that they need is absent, and where
    nothing was traded.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        log_TA = np.log(close_TA)
        return_TA = np.full_like(log_TA, np.nan)
        return_TA[1:] = np.diff(log_TA, axis=0)
        mean_TA = _trailing_sum(return_TA) / WARMUP_HOURS
        square_TA = _trailing_sum(return_TA**2) / WARMUP_HOURS - mean_TA**2
        share = WARMUP_HOURS / (WARMUP_HOURS - 1)
        deviation_TA = np.sqrt(np.maximum(square_TA, 0.0) * share)
        price_TA = log_TA - np.log(_trailing_sum(close_TA) / WARMUP_HOURS)
        activity_TA = np.log(turnover_TA / (_trailing_sum(turnover_TA) / WARMUP_HOURS))
    x_TAF = np.stack([return_TA, deviation_TA, price_TA, activity_TA], axis=2)
    x_TAF[~np.isfinite(x_TAF).all(axis=2)] = np.nan
    return x_TAF.astype(np.float32)


def build_panel(
    symbols: Sequence[str],
    start_time_T: Times,
    candles: Mapping[str, Floats],
    universe: UniverseConfig,
    *,
    synthetic: bool,
) -> MarketPanel:
    """Return the panel of all instruments that are a member at some hour.

    Parameters
    ----------
    symbols : sequence of str
        All instruments, listed and delisted, in any order.
    start_time_T : array [T]
        Consecutive hours, ms since the epoch, UTC.
    candles : mapping of str to array [T, A]
        `open`, `high`, `low`, `close` and `turnover`; NaN where there is no candle.
    universe : UniverseConfig
        Who belongs to the market when.
    synthetic : bool
        Whether a simulator made them.

    Raises
    ------
    NotEnoughHistory
        If no instrument is ever a member, or no member has an hour whose inputs are known.
    """
    member_TA = membership(candles["turnover"], start_time_T, symbols, universe)
    kept = sorted(np.flatnonzero(member_TA.any(axis=0)).tolist(), key=lambda a: symbols[a])
    chosen = {name: np.ascontiguousarray(candles[name][:, kept]) for name in _PRICES}
    panel = MarketPanel(
        tuple(symbols[a] for a in kept),
        np.asarray(start_time_T, np.int64),
        **{f"{name}_TA": values for name, values in chosen.items()},
        member_TA=np.ascontiguousarray(member_TA[:, kept]),
        x_TAF=features(chosen["close"], chosen["turnover"]),
        synthetic=synthetic,
    )
    if not panel.present_TA.any():
        raise NotEnoughHistory(
            f"none of {len(symbols)} instruments has a usable hour in {len(start_time_T)} hours: "
            f"expected candles of {WARMUP_HOURS + 1} hours in a row and an election after them"
        )
    return panel


def read_panel(
    store: KlineStore,
    symbols: Sequence[str],
    first: Month,
    last: Month,
    universe: UniverseConfig,
    *,
    warmup: int = 1,
) -> MarketPanel:
    """Read the market from the stored candles of all instruments.

    Parameters
    ----------
    store : KlineStore
        Hourly candles.
    symbols : sequence of str
        All instruments of which candles may be stored, listed and delisted; one without any stored
        candle is left out, and told by its absence from `MarketPanel.symbols`.
    first, last : Month
        Months of the panel; its hours end with the newest candle.
    universe : UniverseConfig
        Who belongs to the market when.
    warmup : int
        Months before `first` that are read for the trailing turnover alone, where stored.

    Raises
    ------
    NotEnoughHistory
        If no candle is stored in the months.
    SchemaMismatch
        If the candles are not hourly.
    """
    if store.interval is not Interval.HOUR_1:
        raise SchemaMismatch(
            f"{store.folder} has candles of {store.interval.minutes} minutes: expected hourly ones"
        )
    start = first.shift(-warmup)
    parts = {symbol: store.read(symbol, start, last) for symbol in symbols}
    parts = {symbol: candles for symbol, candles in parts.items() if candles.num_rows}
    newest = max((int(c["start_time"][-1].as_py()) for c in parts.values()), default=-1)
    if newest < first.time_range.start:
        raise NotEnoughHistory(
            f"no candle of {len(symbols)} instruments is stored from {first} to {last}"
        )
    oldest = min(int(c["start_time"][0].as_py()) for c in parts.values())
    start_time_T = np.arange(oldest, newest + 1, HOUR_MS, dtype=np.int64)
    laid = {name: np.full((len(start_time_T), len(parts)), np.nan) for name in _PRICES}
    for a, candles in enumerate(parts.values()):
        row_M = (candles["start_time"].to_numpy() - oldest) // HOUR_MS
        for name, values_TA in laid.items():
            values_TA[row_M, a] = candles[name].to_numpy(zero_copy_only=False)
    panel = build_panel(
        tuple(parts), start_time_T, laid, universe, synthetic=bool(store.synthetic())
    )
    row = int(np.searchsorted(panel.start_time_T, first.time_range.start))
    return panel.since(row)


def describe(panel: MarketPanel) -> str:
    """Return the panel in a line of words."""
    return (
        f"{len(panel.symbols)} assets, {len(panel.start_time_T):,} hours from "
        f"{iso_utc(int(panel.start_time_T[0]))}, {int(panel.present_TA.sum()):,} tokens"
    )


def _trailing_sum(x_TA: Floats) -> Floats:
    """Return sums over 24 hours, the newest included.

    Each is added anew, so that a value does not depend on where the panel begins.
    """
    total_TA = np.full_like(x_TA, np.nan)
    n = len(x_TA) - WARMUP_HOURS + 1
    if n > 0:
        total_TA[WARMUP_HOURS - 1 :] = sum(x_TA[k : k + n] for k in range(WARMUP_HOURS))
    return total_TA


__all__ = [
    "FEATURES",
    "WARMUP_HOURS",
    "MarketPanel",
    "build_panel",
    "describe",
    "features",
    "read_panel",
]
