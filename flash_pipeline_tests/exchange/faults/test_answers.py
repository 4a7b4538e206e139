"""Each kind of fault that gives another answer, asked for by name over HTTP."""

import json

import pytest

HOUR = 3_600_000
NOW = 1_719_790_200_000
FORMING = NOW // HOUR * HOUR
LISTED = {"category": "linear", "symbol": "BTCUSDT"}
STARTS = [FORMING - n * HOUR for n in range(1, 10)]


def _pair(faulty, kind, path="kline", **query):
    """Return the faulty answer and the true one that the next attempt gets."""
    with faulty(kind) as (faults, ask):
        pair = ask(path, **query), ask(path, **query)
        assert faults.counts == {kind: 1}
    assert (pair[1].status_code, pair[1].json()["retCode"]) == (200, 0)
    return pair


def _rows(faulty, kind, **query):
    """Return the rows of the faulty answer and of the true one."""
    wrong, right = _pair(faulty, kind, **query)
    assert (wrong.status_code, wrong.json()["retCode"]) == (200, 0)
    return wrong.json()["result"]["list"], right.json()["result"]["list"]


def _starts(rows):
    return [int(row[0]) for row in rows]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("ban_403", 403),
        ("country_block_403", 403),
        ("too_many_429", 429),
        ("too_many_429_retry_after", 429),
        ("internal_error_500", 500),
        ("bad_gateway_502", 502),
        ("unavailable_503", 503),
        ("gateway_timeout_504", 504),
    ],
)
def test_another_status_comes_without_json(faulty, kind, status):
    wrong, _ = _pair(faulty, kind)
    assert wrong.status_code == status
    assert "json" not in wrong.headers["content-type"]


def test_the_two_kinds_of_403_are_told_apart_by_their_pages(faulty):
    ban, _ = _pair(faulty, "ban_403")
    block, _ = _pair(faulty, "country_block_403")
    assert "access too frequent" in ban.text
    assert "block access from your country" in block.text


def test_one_of_the_429_says_when_to_come_back(faulty):
    assert "retry-after" not in _pair(faulty, "too_many_429")[0].headers
    assert _pair(faulty, "too_many_429_retry_after")[0].headers["retry-after"] == "1"


@pytest.mark.parametrize("code", [10000, 10006, 10016])
def test_a_code_comes_over_http_200(faulty, code):
    wrong, _ = _pair(faulty, f"code_{code}")
    assert (wrong.status_code, wrong.json()["retCode"]) == (200, code)
    assert "x-bapi-limit" not in wrong.headers


def test_one_of_the_10006_has_the_headers_of_the_limit(faulty):
    wrong, _ = _pair(faulty, "code_10006_with_reset")
    assert wrong.json()["retCode"] == 10006
    assert int(wrong.headers["x-bapi-limit-reset-timestamp"]) > NOW


def test_a_truncated_body_has_the_right_length_and_is_no_json(faulty):
    wrong, right = _pair(faulty, "truncated_json")
    assert int(wrong.headers["content-length"]) == len(wrong.content) < len(right.content)
    with pytest.raises(json.JSONDecodeError):
        json.loads(wrong.content)


def test_an_oversized_body_is_of_17_mib(faulty):
    wrong, _ = _pair(faulty, "oversized_body")
    assert len(wrong.content) == 17 * 2**20


def test_content_types_lie_both_ways(faulty):
    wrong, right = _pair(faulty, "json_as_html")
    assert (wrong.headers["content-type"], wrong.content) == ("text/html", right.content)
    wrong, _ = _pair(faulty, "html_as_json")
    assert wrong.headers["content-type"] == "application/json"
    assert wrong.text.startswith("<html>")


def test_an_empty_list_looks_like_the_time_before_a_listing(faulty):
    wrong, _ = _pair(faulty, "empty_list")
    assert wrong.json()["result"] == {"category": "linear", "list": []}


def test_a_symbol_is_missing_or_another_one(faulty):
    missing, right = _pair(faulty, "missing_symbol")
    assert "symbol" not in missing.json()["result"]
    assert missing.json()["result"]["list"] == right.json()["result"]["list"]
    other, _ = _pair(faulty, "wrong_symbol")
    assert other.json()["result"]["symbol"] == "ETHUSDT"


def test_duplicated_rows_are_the_true_ones_some_of_them_twice(faulty):
    wrong, right = _rows(faulty, "duplicated_rows")
    assert len(wrong) > len(right)
    assert list(dict.fromkeys(map(tuple, wrong))) == list(map(tuple, right))


def test_conflicting_rows_are_one_candle_in_two_versions(faulty):
    wrong, right = _rows(faulty, "conflicting_rows")
    assert len(wrong) == len(right) + 1
    assert len(set(_starts(wrong))) == len(right)
    assert len(set(map(tuple, wrong))) == len(right) + 1


def test_unsorted_rows_are_the_true_ones(faulty):
    wrong, right = _rows(faulty, "unsorted_rows")
    assert wrong != right
    assert sorted(wrong, reverse=True) == right


def test_missing_rows_leave_some(faulty):
    wrong, right = _rows(faulty, "missing_rows")
    assert 0 < len(wrong) < len(right)
    assert all(row in right for row in wrong)


def test_an_earlier_row_lies_before_the_window(faulty):
    wrong, right = _rows(faulty, "earlier_row")
    assert _starts(wrong) == [*STARTS, STARTS[-1] - HOUR]
    assert wrong[:-1] == right


def test_the_newest_tail_ignores_the_window(faulty):
    wrong, _ = _rows(faulty, "newest_tail")
    assert _starts(wrong) == [FORMING, *STARTS[:-1]]


def test_the_forming_candle_comes_beyond_the_window(faulty):
    wrong, right = _rows(faulty, "forming_row")
    assert _starts(wrong) == [FORMING, *STARTS]
    assert wrong[1:] == right


@pytest.mark.parametrize(("kind", "text"), [("blank_numbers", ""), ("nan_numbers", "NaN")])
def test_one_price_is_no_number(faulty, kind, text):
    wrong, right = _rows(faulty, kind)
    differing = [row for row, true in zip(wrong, right, strict=True) if row != true]
    assert [row[4] for row in differing] == [text]


def test_the_newest_three_candles_are_preliminary_and_sane(faulty):
    wrong, right = _rows(faulty, "preliminary_rows")
    assert wrong[3:] == right[3:]
    for row, true in zip(wrong[:3], right[:3], strict=True):
        assert row[:4] == true[:4]
        assert row[4] != true[4]
        assert float(row[3]) <= float(row[4]) <= float(row[2])
        assert float(row[5]) == pytest.approx(0.75 * float(true[5]))


def test_older_candles_are_never_preliminary(faulty):
    with faulty("preliminary_rows") as (faults, ask):
        ask(start=STARTS[-1], end=STARTS[4])
        assert faults.total == 0


@pytest.mark.parametrize(("kind", "sign"), [("forward", 1), ("back", -1)])
def test_the_clock_of_an_envelope_jumps(faulty, kind, sign):
    wrong, right = _pair(faulty, f"envelope_clock_{kind}")
    assert sign * (wrong.json()["time"] - right.json()["time"]) >= HOUR
    assert wrong.json()["result"] == right.json()["result"]


@pytest.mark.parametrize(("kind", "sign"), [("forward", 1), ("back", -1)])
def test_the_clock_that_is_asked_for_jumps(faulty, kind, sign):
    wrong, _ = _pair(faulty, f"server_time_{kind}", path="time")
    body = wrong.json()
    assert sign * (body["time"] - NOW) >= HOUR
    assert body["result"]["timeNano"] == str(body["time"] * 1_000_000)


def test_a_kind_that_cannot_happen_to_a_request_leaves_it_alone(faulty):
    with faulty("duplicated_rows") as (faults, ask):
        assert ask("time").json()["retCode"] == 0
        assert faults.total == 0


def test_a_high_below_the_low_is_one_rows(faulty):
    wrong, right = _rows(faulty, "high_below_low")
    (row,) = [row for row in wrong if row not in right]
    assert float(row[2]) < float(row[3])


def test_a_price_of_zero_is_one_rows(faulty):
    wrong, right = _rows(faulty, "zero_price")
    (row,) = [row for row in wrong if row not in right]
    assert row[3:5] == ["0", "0"]


def test_a_negative_volume_is_one_rows(faulty):
    wrong, right = _rows(faulty, "negative_volume")
    (row,) = [row for row in wrong if row not in right]
    assert float(row[5]) < 0


def test_a_negative_volume_cannot_happen_to_the_mark_price(faulty):
    with faulty("negative_volume") as (faults, ask):
        window = {"start": FORMING - 9 * HOUR, "end": FORMING - HOUR, "limit": 9}
        body = ask("mark-price-kline", symbol="BTCUSDT", interval="60", **window).json()
        assert (len(body["result"]["list"]), faults.total) == (9, 0)


@pytest.mark.parametrize(("path", "query"), [("kline", {}), ("instruments-info", LISTED)])
def test_a_symbol_that_vanished_is_no_parameter_of_the_exchange(faulty, path, query):
    wrong, _ = _pair(faulty, "vanished_symbol", path, **query)
    assert (wrong.status_code, wrong.json()["retCode"]) == (200, 10001)
    assert "Symbol" in wrong.json()["retMsg"]


def test_what_names_no_symbol_cannot_lose_it(faulty):
    with faulty("vanished_symbol") as (faults, ask):
        assert ask("time").json()["retCode"] == 0
        assert faults.total == 0
