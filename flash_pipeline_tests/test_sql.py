"""What goes into the text of SQL: constants of the code. Values go in as parameters."""

import ast
import re
from pathlib import Path

import pyarrow as pa
import pytest

import flash_pipeline
from flash_pipeline.evaluation.forecasts import (
    FORECAST_SCHEMA,
    latest_forecasts,
    record_forecast,
)
from flash_pipeline.evaluation.promotion_log import log_rows
from flash_pipeline.features import FEATURES_TABLE, read_features
from flash_pipeline.ingest import Gap, GapCause, Ledger
from flash_pipeline.market import Interval
from flash_pipeline.storage.warehouse import open_warehouse

PACKAGE = Path(flash_pipeline.__file__).parent
HOUR = Interval.HOUR_1
HOSTILE = ("' OR 1=1 --", "x'; DROP TABLE forecasts; --", "\"; ATTACH '/etc/passwd'; --", "\0")

STATEMENT = re.compile(
    r"\bSELECT\b.*\bFROM\b|\bINSERT INTO\b|\bDELETE FROM\b|\bUPDATE \S+ SET\b|\bALTER TABLE\b"
    r"|\bCREATE (OR REPLACE )?(TEMP )?TABLE\b|\bDROP TABLE\b|\bCOPY \S+ (TO|FROM)\b|^FROM \0"
    r"|\bATTACH\b|\bPRAGMA\b",
    re.DOTALL,
)
CONSTANT = re.compile(r"_?[A-Z][A-Z_]*|', '\.join\(_?[A-Z][A-Z_]*(\.names)?\)")

WRITTEN_HERE = {
    "evaluation/forecasts.py": {"name"},  # of the columns that were added
    # Columns, named by this module and the one that audits promotions; values are parameters.
    "evaluation/promotion_log.py": {
        "columns",
        "names",
        "', '.join((f'${name}' for name in row))",
    },
    # Formulas of the catalog, and two queries of candles by parameters.
    "features/candles.py": {"valued_sql(source, interval)"},
    "features/engineering.py": {
        "candles",
        "columns",
        "nulls",
        "step",
        "values",
        "valued_sql(candles, interval)",
    },
    # Names of the two tables and columns of their schemas.
    "ingest/ledger.py": {
        "columns",
        "table",
        "' AND '.join((f'seen.{n} IS NOT DISTINCT FROM recorded.{n}' for n in _VALUES))",
    },
}
"""What else is put into statements, by file, looked through by a person: no name from outside."""


def inserted(path):
    """Yield what the statements of a module are put together from, as source text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            text = "".join(v.value if isinstance(v, ast.Constant) else "\0" for v in node.values)
            if STATEMENT.search(text):
                yield from (
                    ast.unparse(v.value) for v in node.values if isinstance(v, ast.FormattedValue)
                )


def test_only_constants_and_what_was_looked_through_go_into_statements():
    found = {}
    for path in PACKAGE.rglob("*.py"):
        others = {text for text in inserted(path) if not CONSTANT.fullmatch(text)}
        if others:
            found[path.relative_to(PACKAGE).as_posix()] = others
    assert found == WRITTEN_HERE


def test_a_value_in_a_statement_is_found(tmp_path):
    module = tmp_path / "module.py"
    module.write_text(
        "def f(symbol):\n    return f\"SELECT * FROM {TABLE} WHERE s = '{symbol}'\"\n"
    )
    assert [text for text in inserted(module) if not CONSTANT.fullmatch(text)] == ["symbol"]


@pytest.fixture
def warehouse(tmp_path):
    path = tmp_path / "warehouse.duckdb"
    row = {
        "symbol": "BTCUSDT",
        "made_at": 3_600_000,
        "interval": "60",
        "horizon": 24,
        "head": "regression",
        "prediction": 0.1,
        "model_version": "1",
        "synthetic": True,
    }
    forecast = pa.Table.from_pylist([row], schema=FORECAST_SCHEMA)
    with open_warehouse(path) as connection:
        connection.execute(
            f"CREATE TABLE {FEATURES_TABLE} (symbol VARCHAR, start_time BIGINT, close DOUBLE, "
            "volume DOUBLE, log_return DOUBLE, volatility DOUBLE, volume_ma_ratio DOUBLE, "
            "price_ma_ratio DOUBLE, rsi DOUBLE)"
        )
        record_forecast(connection, forecast, HOUR)
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_a_name_that_is_not_there(warehouse, name):
    with open_warehouse(warehouse) as connection:
        assert latest_forecasts(connection, [name]).num_rows == 0
        assert latest_forecasts(connection, version=name).num_rows == 0
        assert read_features(connection, [name], 0).num_rows == 0
        assert log_rows(connection, "number").num_rows == 0
    ledger = Ledger(warehouse, name, HOUR)
    gap = Gap(0, 3_600_000, GapCause.EXCHANGE_GAP, 0, 0)
    ledger.replace_open_gaps({name: [gap]})
    assert set(ledger.open_gaps()) == {name}
    assert Ledger(warehouse, "bybit", HOUR).open_gaps() == {}
    with open_warehouse(warehouse, read_only=True) as connection:
        assert latest_forecasts(connection).num_rows == 1
