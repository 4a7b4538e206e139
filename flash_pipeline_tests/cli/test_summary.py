"""What a run prints at its end."""

import json

import numpy as np
import pyarrow as pa
import pytest

from flash_pipeline.cli.summary import print_summary
from flash_pipeline.evaluation import FORECAST_SCHEMA, record_forecast
from flash_pipeline.features import FEATURE_NAMES
from flash_pipeline.market import Interval, compact_utc
from flash_pipeline.settings import Settings
from flash_pipeline.storage.warehouse import open_warehouse
from flash_pipeline.windows import Panel, write_windows

HOUR_MS = 3_600_000
FIRST_MS = 1_704_067_200_000  # 2024-01-01T00:00Z
BARS = 12
OLDER, NEWER = FIRST_MS + BARS * HOUR_MS, FIRST_MS + 999 * HOUR_MS
SYMBOLS = ("BTCUSDT", "ETHUSDT")


@pytest.fixture
def settings(tmp_path):
    """Return a home whose windows and report are of the older instant."""
    settings = Settings(home=tmp_path)
    start_time_T = FIRST_MS + HOUR_MS * np.arange(BARS)
    x_TSF = np.zeros((BARS, 2, len(FEATURE_NAMES)), np.float32)
    panel = Panel(SYMBOLS, FEATURE_NAMES, Interval.HOUR_1, start_time_T, x_TSF, np.ones((BARS, 2)))
    write_windows(panel, settings.windows, lookback=4, horizon=2, stride=4, synthetic=True)
    report = settings.reports / compact_utc(OLDER)
    report.mkdir(parents=True)
    (report / "metrics.json").write_text(json.dumps({"verdict": {"headline": "no edge"}}))
    with open_warehouse(settings.warehouse) as connection:
        connection.execute(
            "CREATE TABLE features (symbol VARCHAR, start_time BIGINT, close DOUBLE)"
        )
    return settings


@pytest.fixture
def record(settings):
    """Return a function that stores a forecast of both symbols."""

    def record(made_at, version, prediction, head="regression"):
        fixed = {"interval": "60", "horizon": 2, "head": head, "synthetic": True}
        varying = {"made_at": made_at, "model_version": version, "prediction": prediction}
        rows = [{"symbol": symbol, **fixed, **varying} for symbol in SYMBOLS]
        with open_warehouse(settings.warehouse) as connection:
            forecast = pa.Table.from_pylist(rows, schema=FORECAST_SCHEMA)
            record_forecast(connection, forecast, Interval.HOUR_1)

    return record


def test_the_forecasts_of_the_windows_newest_instant_are_shown(settings, record, capsys):
    record(OLDER, "3", 0.0125)
    print_summary(settings)
    shown = capsys.readouterr().out
    assert "Forecasts of 2024-01-01T12:00Z, 2 bars ahead, model version 3" in shown
    assert shown.count("+1.250% log return") == 2


@pytest.mark.parametrize(
    ("head", "prediction", "words"),
    [
        ("quantile", 0.0125, "+1.250% median log return"),
        ("direction", 0.625, "62.5% probability of a rise"),
        ("allocation", -0.25, "-0.25 weight"),
    ],
)
def test_each_head_speaks_its_own_language(settings, record, capsys, head, prediction, words):
    record(OLDER, "3", prediction, head)
    print_summary(settings)
    assert capsys.readouterr().out.count(words) == 2


def test_newer_forecasts_than_the_windows_are_not_shown(settings, record, capsys):
    record(NEWER, "3", 0.05)
    print_summary(settings)
    shown = capsys.readouterr().out
    assert "log return" not in shown
    assert "Verdict     no edge" in shown


def test_the_report_is_that_of_the_windows_newest_instant(settings, record, capsys):
    record(NEWER, "3", 0.05)
    (settings.reports / compact_utc(NEWER)).mkdir()
    print_summary(settings)
    assert f"{settings.reports / '20240101T1200Z' / 'report.html'}\n" in capsys.readouterr().out


def test_forecasts_of_the_windows_are_shown_beside_newer_ones(settings, record, capsys):
    record(NEWER, "3", 0.05)
    record(OLDER, "4", 0.0125)
    print_summary(settings)
    shown = capsys.readouterr().out
    assert shown.count("+1.250% log return") == 2
    assert "+5.000%" not in shown
