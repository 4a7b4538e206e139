"""Which instruments stand for election: all perpetuals that the exchange lists, or ever has."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flash_pipeline.errors import InvalidSymbol
from flash_pipeline.market import parse_symbol

QUOTE_COIN = "USDT"
"""Quote coin of the market's instruments."""


def perpetuals(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the symbols of linear USDT perpetuals, sorted.

    Parameters
    ----------
    rows : iterable of mapping
        Instruments as the exchange describes them; dated futures, other quote coins and names that
        are no symbols of ours are left out.
    """
    found = set()
    for row in rows:
        if row.get("contractType") != "LinearPerpetual" or row.get("quoteCoin") != QUOTE_COIN:
            continue
        try:
            found.add(parse_symbol(str(row.get("symbol"))))
        except InvalidSymbol:
            continue
    return sorted(found)


def stored_symbols(klines: Path) -> list[str]:
    """Return the symbols of which candles are stored, sorted: some the exchange may have forgotten.

    Parameters
    ----------
    klines : Path
        Folder of `symbol=…`; need not exist.
    """
    names = (path.name.removeprefix("symbol=") for path in klines.glob("symbol=*"))
    return sorted(name for name in names if name.endswith(QUOTE_COIN))
