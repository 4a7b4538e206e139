"""A candle that cannot be is never stored, and one that is stored all the same is read again."""

import time

import numpy as np
import pyarrow as pa
import pytest

from flash_pipeline.errors import InconsistentAnswer
from flash_pipeline.ingest.rules import broken_rows, sound_rows
from flash_pipeline.market import CandleAnswer, Interval, Month, parse_instant

HOUR = 3_600_000
FIRST = parse_instant("2024-06-01")
NOW = "2024-06-02T05:30Z"
WRONG = [("high", 1.0), ("low", 0.0), ("volume", -1.0), ("close", float("inf")), ("open", 1e9)]


def with_value(candles, start, name, value):
    """Put a value into the candle that starts then, if it is there."""
    values = candles[name].to_numpy().copy()
    values[candles["start_time"].to_numpy() == start] = value
    index = candles.schema.get_field_index(name)
    return candles.set_column(index, candles.schema.field(name), pa.array(values))


def answering(start, name, value, times=99):
    """Answer a wrong value so many times."""
    left = [times]

    def distort(asked, answer):
        if not left[0] or asked.interval is Interval.DAY_1 or start not in asked.window:
            return answer
        left[0] -= 1
        return CandleAnswer(with_value(answer.candles, start, name, value), answer.as_of)

    return distort


@pytest.fixture
def source(market, series):
    return market(BTCUSDT=series("2024-06-01", 48))


@pytest.mark.parametrize(("name", "value"), WRONG)
@pytest.mark.parametrize("times", [1, 2])
def test_a_candle_that_breaks_a_rule_is_asked_for_again(
    refresh, source, store, ledger, name, value, times
):
    source.distort = answering(FIRST + 7 * HOUR, name, value, times)
    done, asked = refresh(source, NOW, "2024-06", ledger=ledger)
    assert store.read_all("BTCUSDT").equals(source.truth["BTCUSDT"].slice(0, 29))
    assert (done.missing, len(asked)) == (0, 1 + times)


def test_one_that_breaks_it_in_every_answer_is_a_gap_on_record(refresh, source, store, ledger):
    source.distort = answering(FIRST + 7 * HOUR, "low", 0.0)
    done, _ = refresh(source, NOW, "2024-06", ledger=ledger)
    assert done.missing_by_cause == {"exchange_gap": 1}
    assert FIRST + 7 * HOUR not in store.read_all("BTCUSDT")["start_time"].to_pylist()
    (gap,) = ledger.open_gaps()["BTCUSDT"]
    assert (gap.first_start, gap.last_start) == (FIRST + 7 * HOUR,) * 2


def test_a_wrong_version_does_not_replace_a_sound_one(refresh, source, store, ledger):
    refresh(source, NOW, "2024-06", ledger=ledger)
    source.distort = answering(FIRST + 28 * HOUR, "high", 1.0)
    done, asked = refresh(source, NOW, "2024-06", ledger=ledger)
    assert (done.revisions, done.files_written, len(asked)) == (0, 0, 3)
    assert store.read_all("BTCUSDT").equals(source.truth["BTCUSDT"].slice(0, 29))


def test_an_answer_most_of_which_cannot_be_is_refused(refresh, source, store):
    def swapped(_, answer):
        columns = [answer.candles[name] for name in answer.candles.column_names]
        columns[5], columns[6] = columns[6], columns[5]
        return CandleAnswer(pa.table(columns, schema=answer.candles.schema), answer.as_of)

    source.distort = swapped
    with pytest.raises(InconsistentAnswer, match=r"29 of 29 candles .* break a rule: 29 average"):
        refresh(source, NOW, "2024-06")
    assert store.months("BTCUSDT") == []


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_stored_candle_that_breaks_a_rule_is_read_again(refresh, source, store, name, value):
    whole = source.truth["BTCUSDT"].slice(0, 29)
    wrong = with_value(whole, FIRST + 7 * HOUR, name, value)
    store.write_month("BTCUSDT", Month(2024, 6), wrong, synthetic=False)
    refresh(source, NOW, "2024-06")
    assert store.read_all("BTCUSDT").equals(whole)


def test_a_thousand_candles_are_looked_at_in_far_less_than_a_millisecond(series):
    candles = series("2024-01-01", 1000)
    assert sound_rows(candles, Interval.HOUR_1) is candles
    took = []
    for _ in range(50):
        begun = time.perf_counter()
        broken_rows(candles, Interval.HOUR_1)
        took.append(time.perf_counter() - begun)
    assert np.min(took) < 0.3e-3
