"""`flash_pipeline forecast`: the champion's newest forecasts, for people and programs."""

import json
import re

import pyarrow as pa
import pytest

from flash_pipeline.cli.forecast import newest_forecasts
from flash_pipeline.errors import DataError, InvalidInput, ModelNotRegistered
from flash_pipeline.evaluation import FORECAST_SCHEMA, record_forecast
from flash_pipeline.market import Interval
from flash_pipeline.storage.warehouse import open_warehouse
from flash_pipeline_tests.cli.conftest import LAST_CLOSE

pytestmark = pytest.mark.slow

HOUR_S = 3600
AT_S = LAST_CLOSE / 1000


def rows_of(command, symbols=None, *, age_h=0.5, max_age_s=None):
    return newest_forecasts(command.settings, symbols, AT_S + age_h * HOUR_S, max_age_s)


def record(command, **changes):
    """Store a forecast of the other shape that `changes` say."""
    row = {
        "symbol": "BTCUSDT",
        "made_at": LAST_CLOSE,
        "interval": "60",
        "horizon": 24,
        "head": "regression",
        "prediction": 0.5,
        "model_version": "1",
        "synthetic": True,
        **changes,
    }
    with open_warehouse(command.settings.warehouse) as connection:
        forecast = pa.Table.from_pylist([row], schema=FORECAST_SCHEMA)
        record_forecast(connection, forecast, Interval.HOUR_1)


def test_prints_a_row_per_symbol_and_says_that_the_market_is_synthetic(finished, invoke):
    command, _ = finished
    done = invoke(command.home, "forecast")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("SYNTHETIC MARKET")
    for row in rows_of(command):
        line = next(line for line in done.stdout.splitlines() if row["symbol"] in line)
        words = f"{row['prediction']:+.3%} log return"
        assert re.search(rf"2024-03-20T10:00Z +2024-03-21T10:00Z +{re.escape(words)} .* 1 ", line)


def test_json_holds_what_is_stored(finished, invoke):
    command, _ = finished
    done = invoke(command.home, "forecast", "--json", "--symbols", "ETHUSDT")
    answer = json.loads(done.stdout)
    assert answer["model_version"] == "1"
    (row,) = answer["forecasts"]
    stored = rows_of(command, "ETHUSDT")[0]
    assert {name: value for name, value in row.items() if name not in ("age_s", "stale")} == {
        name: value for name, value in stored.items() if name not in ("age_s", "stale")
    }


@pytest.mark.parametrize(("age_h", "stale"), [(0.5, False), (1.9, False), (2.1, True)])
def test_a_forecast_is_stale_once_two_bars_have_passed(finished, age_h, stale):
    rows = rows_of(finished[0], age_h=age_h)
    assert [row["stale"] for row in rows] == [stale, stale]
    assert rows[0]["age_s"] == pytest.approx(age_h * HOUR_S)


def test_an_age_may_be_asked_for_in_place_of_two_bars(finished):
    assert rows_of(finished[0], age_h=0.5, max_age_s=60)[0]["stale"]


def test_older_forecasts_than_asked_for_are_an_error_below_the_table(finished, invoke):
    command, _ = finished
    done = invoke(command.home, "forecast", "--max-age", "1d")
    assert "STALE" in done.stdout
    assert isinstance(done.exception, DataError)
    assert re.fullmatch(r"the newest forecast of BTCUSDT is .* old: expected at most 1 d 0 h",
                        str(done.exception))  # fmt: skip


def test_a_malformed_age_is_an_error_of_usage(finished, invoke):
    done = invoke(finished[0].home, "forecast", "--max-age", "soon")
    assert done.exit_code == 2
    assert "'soon' is no span of time" in done.output


def test_a_later_forecast_replaces_the_one_shown(used):
    record(used, made_at=LAST_CLOSE + 3_600_000)
    assert [row["prediction"] == 0.5 for row in rows_of(used)] == [True, False]


def test_forecasts_of_another_version_than_the_champions_are_not_shown(used):
    record(used, model_version="2", made_at=LAST_CLOSE + 3_600_000)
    assert {row["model_version"] for row in rows_of(used)} == {"1"}


def test_the_outer_quantiles_are_shown_with_their_coverage(used, invoke):
    made_at = LAST_CLOSE + 3_600_000
    record(used, head="quantile", made_at=made_at, lower=-0.01, upper=0.02, coverage=0.8)
    done = invoke(used.home, "forecast", "--symbols", "BTCUSDT")
    assert "+50.000% median log return   -1.000% and +2.000% (80%)" in done.stdout


def test_a_symbol_without_a_forecast_is_named(finished):
    with pytest.raises(InvalidInput, match=r"'SOLUSDT': expected one of BTCUSDT, ETHUSDT"):
        rows_of(finished[0], "BTCUSDT,SOLUSDT")


def test_a_champion_that_made_no_forecast_is_told(used):
    with open_warehouse(used.settings.warehouse) as connection:
        connection.execute("DROP TABLE forecasts")
    with pytest.raises(DataError, match="champion 1 has made no forecast yet"):
        rows_of(used)


def test_without_a_champion_it_says_what_to_run(command):
    command.home.mkdir()
    with pytest.raises(ModelNotRegistered, match="run the job first"):
        rows_of(command)
