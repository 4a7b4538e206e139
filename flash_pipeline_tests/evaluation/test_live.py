"""Shape letters: N instants, S symbols."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flash_pipeline.errors import SchemaMismatch
from flash_pipeline.evaluation.forecasts import record_forecast
from flash_pipeline.evaluation.live import (
    LIVE_SCHEMA,
    Scored,
    backtest_forecasts,
    check_live,
    live_record,
    record_live,
    scored_forecasts,
)
from flash_pipeline.evaluation.live_figures import draw_live
from flash_pipeline.evaluation.quality import hit_rate, rank_ic
from flash_pipeline.market import Interval

HOUR_MS = 3_600_000
HOUR = Interval.HOUR_1
WEEK = 168
NAN = float("nan")


def scored(dates, *, ic=0.0, seed=0, head="regression", coverage=None, first=0, bias=0.0):
    """Return forecasts of so much correlation; of a direction head probabilities."""
    rng = np.random.default_rng(seed)
    realised_NS = rng.normal(0, 0.02, (dates, 3))
    noise_NS = rng.normal(0, 0.02, (dates, 3))
    prediction_NS = ic * realised_NS + np.sqrt(1 - ic**2) * noise_NS
    if head == "direction":
        prediction_NS = np.clip(0.5 + bias + prediction_NS, 0, 1)
    inside_NS = np.full((dates, 3), NAN)
    if coverage is not None:
        inside_NS = (rng.random((dates, 3)) < coverage).astype(float)
    return Scored(
        version="3",
        head=head,
        horizon=4,
        made_at_N=HOUR_MS * np.arange(first, first + dates),
        prediction_NS=prediction_NS,
        realised_NS=realised_NS,
        inside_NS=inside_NS,
        expected_coverage=NAN if coverage is None else 0.9,
    )


def stored(warehouse, live, symbols=("BTCUSDT", "ETHUSDT", "SOLUSDT")):
    """Put forecasts into the warehouse with their returns known."""
    rows = [
        {
            "symbol": symbol,
            "made_at": int(made_at),
            "interval": "60",
            "horizon": live.horizon,
            "head": live.head,
            "prediction": float(live.prediction_NS[n, s]),
            "model_version": live.version,
            "synthetic": True,
            "lower": -0.01 if live.head == "quantile" else None,
            "upper": 0.01 if live.head == "quantile" else None,
            "coverage": 0.9 if live.head == "quantile" else None,
        }
        for n, made_at in enumerate(live.made_at_N)
        for s, symbol in enumerate(symbols)
    ]
    warehouse.execute(
        "CREATE TABLE IF NOT EXISTS features (symbol VARCHAR, start_time BIGINT, close DOUBLE)"
    )
    record_forecast(warehouse, pa.Table.from_pylist(rows), HOUR)
    returns = pa.table(
        {
            "symbol": list(symbols) * len(live.made_at_N),
            "made_at": np.repeat(live.made_at_N, len(symbols)),
            "value": live.realised_NS.ravel(),
        }
    )
    warehouse.register("returns", returns)
    warehouse.execute(
        "UPDATE forecasts SET realised = value FROM returns WHERE forecasts.symbol = "
        f"returns.symbol AND forecasts.made_at = returns.made_at AND model_version = {live.version}"
    )
    warehouse.unregister("returns")


def test_before_any_forecast_the_record_is_empty(warehouse):
    assert scored_forecasts(warehouse, HOUR) == []
    assert live_record(warehouse, HOUR).schema.equals(LIVE_SCHEMA)
    assert live_record(warehouse, HOUR).num_rows == 0


def test_the_record_has_a_row_per_version_and_week_with_the_measures_of_its_forecasts(warehouse):
    live = scored(2 * WEEK, ic=0.5)
    stored(warehouse, live)
    stored(warehouse, dataclasses.replace(scored(5, seed=1), version="4"))
    rows = live_record(warehouse, HOUR).to_pylist()
    assert [(row["model_version"], row["period_start"]) for row in rows] == [
        ("3", 0),
        ("3", WEEK * HOUR_MS),
        ("4", 0),
    ]
    first = rows[0]
    week_NS = live.prediction_NS[:WEEK], live.realised_NS[:WEEK]
    assert first["rank_ic"] == pytest.approx(rank_ic(*week_NS))
    assert first["hit_rate"] == pytest.approx(hit_rate(*week_NS))
    assert (first["forecasts"], first["head"], first["horizon"]) == (3 * WEEK, "regression", 4)
    assert first["coverage"] is first["probability_excess"] is None


def test_the_record_made_again_is_the_same(warehouse):
    stored(warehouse, scored(WEEK, ic=0.5))
    assert live_record(warehouse, HOUR).equals(live_record(warehouse, HOUR))


def test_forecasts_without_a_known_return_do_not_count_yet(warehouse):
    stored(warehouse, scored(WEEK))
    warehouse.execute(f"UPDATE forecasts SET realised = NULL WHERE made_at >= {10 * HOUR_MS}")
    (live,) = scored_forecasts(warehouse, HOUR)
    assert len(live.made_at_N) == 10


def test_one_version_alone_can_be_asked_for(warehouse):
    stored(warehouse, scored(5))
    stored(warehouse, dataclasses.replace(scored(7), version="4"))
    (live,) = scored_forecasts(warehouse, HOUR, "4")
    assert (live.version, len(live.made_at_N)) == ("4", 7)


def test_the_coverage_of_stored_quantiles_is_the_share_of_returns_between_them(warehouse):
    live = dataclasses.replace(scored(WEEK), head="quantile")
    stored(warehouse, live)
    (row,) = live_record(warehouse, HOUR).to_pylist()
    assert row["coverage"] == pytest.approx((np.abs(live.realised_NS) <= 0.01).mean())
    assert row["expected_coverage"] == pytest.approx(0.9)


def test_a_symbol_without_a_forecast_at_an_hour_is_left_out_of_it(warehouse):
    stored(warehouse, scored(WEEK))
    warehouse.execute("DELETE FROM forecasts WHERE symbol = 'ETHUSDT' AND made_at = 0")
    (live,) = scored_forecasts(warehouse, HOUR)
    assert np.isnan(live.prediction_NS[0]).tolist() == [False, True, False]
    assert live_record(warehouse, HOUR)["forecasts"].to_pylist() == [3 * WEEK - 1]


def lasting(dates, *, ic, seed, flipped_from=None):
    """Return forecasts that are wrong for a day at a time, as labels that overlap are."""
    horizon, rng = 24, np.random.default_rng(seed)

    def over_a_day():
        sums_NS = np.cumsum(rng.normal(0, 0.006, (dates + horizon, 3)), axis=0)
        return sums_NS[horizon:] - sums_NS[:dates]

    realised_NS = over_a_day()
    prediction_NS = ic * realised_NS + np.sqrt(1 - ic**2) * over_a_day()
    if flipped_from is not None:
        prediction_NS[flipped_from:] *= -1
    made = scored(dates)
    return dataclasses.replace(
        made, horizon=horizon, prediction_NS=prediction_NS, realised_NS=realised_NS
    )


@pytest.mark.parametrize("dates", [168, 720, 3000])
def test_a_model_that_does_live_what_its_backtest_did_rarely_raises_an_alarm(dates):
    """However long the record is: the backtest of 1,300 dates is a sample too."""
    alarms = sum(
        not check_live(
            lasting(dates, ic=0.1, seed=1000 + seed), lasting(1300, ic=0.1, seed=seed)
        ).passed
        for seed in range(60)
    )
    assert alarms / 60 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 60)


def test_a_sign_that_flips_is_noticed_within_a_window_however_long_the_record_before_it():
    noticed = []
    for seed in range(10):
        backtest = lasting(1300, ic=0.3, seed=seed)
        live = lasting(3000 + 720, ic=0.3, seed=1000 + seed, flipped_from=3000)
        early = live.within(np.arange(3720) < 3000 + 24)
        assert check_live(early, backtest).live["rank_ic"] > 0, "a day later it is too early"
        noticed.append(not check_live(live, backtest).passed)
    assert np.mean(noticed) >= 0.9


def test_measures_share_the_probability_of_a_false_alarm():
    live = scored(600, ic=0.3, seed=1, coverage=0.9)
    alone = dataclasses.replace(live, inside_NS=np.full((600, 3), NAN))
    backtest = scored(3000, ic=0.3)
    spans = [check_live(each, backtest).expected["rank_ic"] for each in (alone, live)]
    assert spans[1].high - spans[1].low > spans[0].high - spans[0].low


def test_a_model_that_has_lost_its_skill_is_warned_of_in_words():
    check = check_live(scored(600, seed=1), scored(3000, ic=0.3))
    assert not check.passed
    assert check.expected["rank_ic"].value == pytest.approx(0.3, abs=0.05)
    assert any(
        text.startswith("the rank IC is")
        and "over the newest 600 live dates: expected 0." in text
        and "as in the backtest" in text
        for text in check.warnings
    )


def test_a_short_record_or_a_short_backtest_has_a_wide_range():
    def width(dates, backtest):
        live = scored(dates, ic=0.3, seed=1)
        span = check_live(live, scored(backtest, ic=0.3), window=dates).expected["rank_ic"]
        return span.high - span.low

    assert width(100, 60_000) / width(1600, 60_000) == pytest.approx(4, rel=0.3)
    assert width(1600, 1600) / width(1600, 60_000) == pytest.approx(np.sqrt(2), rel=0.15)


def test_the_newest_dates_alone_are_judged():
    record = scored(2000, ic=0.3, seed=1)
    check = check_live(record, scored(3000, ic=0.3))
    assert check.dates == 720
    assert check.live["rank_ic"] == record.newest(720).figures["rank_ic"]


def test_it_is_too_early_to_warn_before_two_blocks_are_scored():
    check = check_live(scored(15, ic=-0.9, seed=1), scored(3000, ic=0.9))
    assert check.passed
    assert check.expected == {}
    assert check.live["rank_ic"] < -0.5


@pytest.mark.parametrize(("covered", "passed"), [(0.9, True), (0.7, False), (0.99, False)])
def test_quantiles_that_cover_another_share_than_they_promise_are_warned_of(covered, passed):
    check = check_live(scored(800, seed=1, coverage=covered), scored(3000))
    assert any("between the outer quantiles" in text for text in check.warnings) is not passed


@pytest.mark.parametrize(("bias", "passed"), [(0.0, True), (0.2, False)])
def test_probabilities_that_promise_too_many_rises_are_warned_of(bias, passed):
    live = scored(800, seed=1, head="direction", bias=bias)
    check = check_live(live, scored(3000, head="direction", bias=bias))
    assert check.live["probability_excess"] == pytest.approx(bias, abs=0.04)
    assert any("predicted over realised rises" in text for text in check.warnings) is not passed


def test_the_predictions_of_a_report_take_the_same_form(contest, make_bundle, tmp_path):
    met, report = contest(make_bundle())
    rows = pq.read_table(report.folder / "predictions.parquet")
    backtest = backtest_forecasts(rows, "regression", 4)
    assert (backtest.version, len(backtest.made_at_N)) == ("2", met.anchors)
    figures = check_live(backtest, backtest).live
    assert figures["rank_ic"] == pytest.approx(met.challenger.quality["rank_ic"])
    assert figures["hit_rate"] == pytest.approx(met.challenger.quality["hit_rate"])


@pytest.mark.parametrize("table", [pa.table({"made_at": [1]}), None])
def test_a_table_that_holds_no_predictions_is_refused(contest, make_bundle, table):
    if table is None:
        _, report = contest(make_bundle())
        table = pq.read_table(report.folder / "predictions.parquet").slice(0, 0)
    with pytest.raises(SchemaMismatch, match="expected made_at, symbol, prediction, label"):
        backtest_forecasts(table, "regression", 4)


def test_the_stored_record_is_brought_in_line_with_the_forecasts(warehouse):
    assert record_live(warehouse, HOUR).num_rows == 0
    stored(warehouse, scored(WEEK))
    for _ in range(2):
        record = record_live(warehouse, HOUR)
        assert warehouse.sql("FROM live_record").to_arrow_table().to_pylist() == record.to_pylist()
    assert record.num_rows == 1


def test_the_newest_dates_are_the_last_ones():
    live = scored(30)
    assert live.newest(10).made_at_N.tolist() == live.made_at_N[20:].tolist()
    assert len(live.newest(99).made_at_N) == 30


def test_without_a_backtest_calibration_alone_is_checked():
    check = check_live(scored(800, ic=-0.9, seed=1, coverage=0.7), None)
    assert check.expected == {}
    assert [text.split(" is ")[0] for text in check.warnings] == [
        "the share of returns between the outer quantiles"
    ]


def test_a_record_is_drawn(warehouse):
    stored(warehouse, dataclasses.replace(scored(2 * WEEK), head="quantile"))
    stored(warehouse, dataclasses.replace(scored(2, seed=1), version="4"))
    assert draw_live(live_record(warehouse, HOUR)).startswith(b"\x89PNG")
