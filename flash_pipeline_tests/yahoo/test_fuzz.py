"""Any answer gives candles that hold what the contract says, or an error of the tree."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from flash_pipeline.errors import ExchangeError
from flash_pipeline.market import CANDLE_SCHEMA, Interval
from flash_pipeline.yahoo.alignment import align
from flash_pipeline.yahoo.chart import read_chart
from flash_pipeline_tests.yahoo.conftest import _chart, _failure

AS_OF = 1_800_000_000_000
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=10,
)
prices = st.floats(0.5, 200.0) | st.sampled_from([None, 0, -1.0, 1e30, 5e-324]) | scalars
times = st.integers(1_717_000_000, 1_718_000_000) | st.integers(-(10**10), 10**11) | scalars
rows = st.lists(st.tuples(times, prices, prices, prices, prices, prices), max_size=6)
zones = st.sampled_from(["America/New_York", "Australia/Sydney", "UTC", "Pacific/Apia"]) | scalars


@st.composite
def charts(draw):
    """A chart that is right here and wrong there."""
    granularity = draw(st.sampled_from(["1h", "1d"]))
    body = _chart([], granularity=granularity)
    result = body["chart"]["result"][0]
    columns = [list(column) for column in zip(*draw(rows), strict=True)] or [[]] * 6
    names = ("open", "high", "low", "close", "volume")
    result["timestamp"] = columns[0]
    result["indicators"]["quote"] = [dict(zip(names, columns[1:], strict=True))]
    period = st.none() | st.fixed_dictionaries({"start": times, "end": times, "gmtoffset": scalars})
    result["meta"] |= {
        "exchangeTimezoneName": draw(zones),
        "regularMarketTime": draw(times),
        "currentTradingPeriod": draw(st.fixed_dictionaries({"regular": period}) | anything),
    }
    place = draw(st.sampled_from([None, None, "meta", "timestamp", "indicators"]))
    if place is not None:
        result[place] = draw(anything)
    return body, granularity


def check(answer, granularity):
    try:
        chart = read_chart(answer, "AAPL", "AAPL", granularity)
        if chart is None:
            return
        interval = {"1h": Interval.HOUR_1, "1d": Interval.DAY_1}[granularity]
        candles = align(chart, interval, AS_OF, "AAPL")
    except ExchangeError:
        return
    assert candles.schema.equals(CANDLE_SCHEMA)
    candles.validate(full=True)
    starts = candles["start_time"].to_pylist()
    assert starts == sorted(set(starts))
    for row in candles.to_pylist():
        assert row["start_time"] % interval.milliseconds == 0
        assert row["start_time"] + interval.milliseconds <= AS_OF
        assert 0 < row["low"] <= min(row["open"], row["close"])
        assert max(row["open"], row["close"]) <= row["high"] < float("inf")
        assert 0 <= row["volume"] < float("inf")
        assert row["turnover"] is None


@given(charts())
def test_any_chart_gives_sound_candles_or_an_error(answer, case):
    body, granularity = case
    check(answer(content=json.dumps(body).encode()), granularity)


@given(
    anything
    | st.fixed_dictionaries({"chart": anything})
    | st.fixed_dictionaries(
        {"chart": st.fixed_dictionaries({"result": anything, "error": anything})}
    ),
    st.sampled_from([200, 400, 404, 422, 429, 500]),
)
@example(_failure("Not Found", "x"), 200)
@example(_failure("", ""), 422)
def test_any_json_gives_sound_candles_or_an_error(answer, body, status):
    check(answer(body, status=status), "1h")


@given(st.binary(max_size=60))
def test_any_bytes_give_an_error(answer, content):
    check(answer(content=content), "1h")
