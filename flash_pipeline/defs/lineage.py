"""From which columns the columns of each asset come, as the UI draws it.

Assets whose rows come from an exchange are the roots: they have none.
"""

import re
from collections.abc import Iterable, Mapping

import dagster as dg

from flash_pipeline.features import CATALOG, FEATURE_NAMES, Feature

Columns = tuple[str, ...]

_STEP: Mapping[str, Columns] = {
    "close": ("close",),
    "volume": ("volume",),
    "change": ("start_time", "close"),
    "log_return": ("start_time", "close"),
    "full": ("start_time",),
}
"""Columns of a candle behind the words of a feature's SQL: see the catalog's own legend."""


def feature_inputs(feature: Feature) -> Columns:
    """Return the columns of the candles that a feature is computed from, by its SQL.

    Examples
    --------
    >>> feature_inputs(CATALOG[2])
    ('start_time', 'volume')
    """
    words = re.findall(r"[a-z_]+", feature.sql)
    found = {column for word in words for column in _STEP.get(word, ())}
    return tuple(each for each in ("start_time", "close", "volume") if each in found)


def _features() -> dict[str, dict[str, Columns]]:
    inputs: dict[str, Columns] = {name: (name,) for name in ("start_time", "close", "volume")}
    inputs |= {each.name: feature_inputs(each) for each in CATALOG}
    return {name: {"klines": columns} for name, columns in inputs.items()}


_SEEN: Mapping[str, Columns] = {"window_tensors": ("x", "valid")}
_DATE: Mapping[str, Columns] = {"window_tensors": ("anchor_start_time",)}
_LABEL: Mapping[str, Columns] = {"window_tensors": ("y",)}
_CONTEST: Mapping[str, Columns] = {"backtest_report": ("made_at",)}
_PRICES: Mapping[str, Columns] = {"klines": ("open", "close")}
_TRADED: Mapping[str, Columns] = {"backtest_report": ("prediction",), **_PRICES}
_REALISED: Mapping[str, Columns] = {"forecasts": ("prediction", "realised")}
_FOLD_COLUMNS = ("fold", "model", "head", "made_at", "symbol", "prediction", "label", "label_end")

LINEAGE: Mapping[str, Mapping[str, Mapping[str, Columns]]] = {
    "features": _features(),
    "window_tensors": {
        "anchor_start_time": {"features": ("start_time",)},
        "label_end": {"features": ("start_time",)},
        "x": {"features": FEATURE_NAMES},
        "y": {"features": ("close",)},
        "valid": {"features": FEATURE_NAMES},
    },
    "backtest_report": {
        "made_at": _DATE,
        "prediction": _SEEN,
        "label": _LABEL,
    },
    "champion": {
        **dict.fromkeys(("made_at", "first_made_at", "last_made_at", "dates"), _CONTEST),
        **dict.fromkeys(("net_return_difference", "lower", "p_value"), _TRADED),
        "challenger": {"backtest_report": ("model_version",)},
    },
    "forecasts": {
        "made_at": _DATE,
        **dict.fromkeys(("prediction", "lower", "upper"), _SEEN),
        "model_version": {"champion": ("champion",)},
        "realised": {"features": ("start_time", "close")},
    },
    "live_record": {
        **{name: {"forecasts": (name,)} for name in ("model_version", "head", "horizon")},
        "period_start": {"forecasts": ("made_at",)},
        "forecasts": {"forecasts": ("realised",)},
        **dict.fromkeys(("rank_ic", "hit_rate", "probability_excess"), _REALISED),
        "coverage": {"forecasts": ("lower", "upper", "realised")},
        "expected_coverage": {"forecasts": ("coverage",)},
    },
    "walk_forward_folds": {
        "made_at": _DATE,
        **dict.fromkeys(("prediction", "lower", "upper"), _SEEN),
        "label": _LABEL,
        "label_end": {"window_tensors": ("label_end",)},
    },
    "walk_forward": {
        name: {"walk_forward_folds": (name,)} for name in (*_FOLD_COLUMNS, "lower", "upper", "unit")
    },
}
"""Columns by asset, and the columns of other assets that each is computed from."""

ROOTS = (
    *("instruments", "klines", "funding", "mark_klines", "tickers"),
    *("order_book_snapshots", "market_candles"),
)
"""Tables whose rows an exchange gives."""


def column_lineage(asset: str) -> dict[str, dg.TableColumnLineage]:
    """Return the metadata entry of an asset's column lineage; nothing for one without any."""
    columns = LINEAGE.get(asset)
    if columns is None:
        return {}
    return {
        "dagster/column_lineage": dg.TableColumnLineage(
            {name: list(_deps(sources)) for name, sources in columns.items()}
        )
    }


def _deps(sources: Mapping[str, Columns]) -> Iterable[dg.TableColumnDep]:
    for asset, columns in sources.items():
        for column in columns:
            yield dg.TableColumnDep(asset_key=asset, column_name=column)
