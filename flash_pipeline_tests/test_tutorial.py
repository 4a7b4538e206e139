"""The programs of docs/tutorial.md on tables made for them."""

import sys

import duckdb

from flash_pipeline_tests.pages import blocks, text_of

PROGRAM = blocks(text_of("docs/tutorial.md"), "python")[0]


def test_it_prints_the_newest_forecast_of_the_newest_version_in_utc(tmp_path, monkeypatch, capsys):
    with duckdb.connect(tmp_path / "warehouse.duckdb") as warehouse:
        warehouse.execute(
            "CREATE TABLE forecasts AS SELECT 'BTCUSDT' AS symbol, 24 AS horizon, "
            "1704067200000 - 3600000 * age AS made_at, 0.01 * version AS prediction, "
            "version::VARCHAR AS model_version "
            "FROM (VALUES (0, 9), (0, 10), (1, 11)) AS t(age, version)"
        )
    monkeypatch.setenv("FLASH_PIPELINE_HOME", str(tmp_path))
    monkeypatch.setenv("TZ", "America/New_York")
    monkeypatch.setitem(sys.modules, "pytz", None)  # DuckDB wants it for times with a zone
    exec(compile(PROGRAM, "program", "exec"), {})
    said = "BTCUSDT 2024-01-01 00:00 UTC +10.0000% over 24 bars, model 10\n"
    assert capsys.readouterr().out == said
