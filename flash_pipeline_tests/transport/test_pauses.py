import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flash_pipeline.transport.pauses import LONGEST_RESET_S, LONGEST_RETRY_S, asked_pause_s

NOW = 1_746_273_600.0  # Sat, 03 May 2025 12:00:00 GMT
DATE = "Sat, 03 May 2025 12:00:00 GMT"


def _reset(after_ms: int) -> str:
    return str(int(NOW * 1000) + after_ms)


def _pause(limited: bool = False, **headers: str) -> float:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return asked_pause_s(named, NOW, limited=limited)


def test_without_headers_nothing_is_asked():
    assert _pause() == 0
    assert _pause(limited=True) == 0


def test_an_exhausted_limit_is_waited_for_until_its_reset():
    pause = _pause(x_bapi_limit_status="0", x_bapi_limit_reset_timestamp=_reset(1700))
    assert pause == pytest.approx(1.7)


def test_a_limit_with_requests_left_is_not_waited_for():
    headers = {"x_bapi_limit_status": "7", "x_bapi_limit_reset_timestamp": _reset(1700)}
    assert _pause(**headers) == 0
    assert _pause(limited=True, **headers) == pytest.approx(1.7)


def test_the_reset_is_by_the_servers_own_clock():
    late = {"date": "Sat, 03 May 2025 11:00:00 GMT"}
    headers = {"x_bapi_limit_status": "0", "x_bapi_limit_reset_timestamp": _reset(-3_598_000)}
    assert _pause(**headers) == 0
    assert _pause(**headers, **late) == pytest.approx(2)


def test_a_reset_that_has_passed_is_not_waited_for():
    assert _pause(x_bapi_limit_status="0", x_bapi_limit_reset_timestamp=_reset(-5)) == 0


def test_a_reset_far_away_is_a_broken_clock_and_bounded():
    headers = {"x_bapi_limit_status": "0", "x_bapi_limit_reset_timestamp": _reset(86_400_000)}
    assert _pause(**headers) == LONGEST_RESET_S


@pytest.mark.parametrize(
    ("text", "pause"),
    [
        ("3", 3),
        ("0", 0),
        ("Sat, 03 May 2025 12:00:20 GMT", 20),
        ("Sat, 03 May 2025 12:00:20", 20),
        ("Sat, 03 May 2025 11:00:00 GMT", 0),
        ("86400", LONGEST_RETRY_S),
        ("Sun, 04 May 2025 12:00:00 GMT", LONGEST_RETRY_S),
        ("soon", 0),
        ("-5", 0),
        ("", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text, pause):
    assert _pause(limited=True, retry_after=text, date=DATE) == pause
    assert _pause(limited=True, retry_after=text) == pause


def test_retry_after_of_an_answer_that_was_given_is_ignored():
    assert _pause(retry_after="3") == 0


def test_of_two_wishes_the_longer_counts():
    pause = _pause(limited=True, retry_after="3", x_bapi_limit_reset_timestamp=_reset(4000))
    assert pause == pytest.approx(4)


texts = st.text(st.characters(max_codepoint=255), max_size=30) | st.integers().map(str)


@given(
    st.dictionaries(
        st.sampled_from(
            ["date", "retry-after", "x-bapi-limit-status", "x-bapi-limit-reset-timestamp"]
        ),
        texts,
    ),
    st.booleans(),
)
@example({"date": "Sat, 99 Zzz 99999 99:99:99 +9999", "retry-after": DATE}, True)
@example({"retry-after": "1" * 5000}, True)
@example({"retry-after": "²"}, True)
def test_any_header_gives_a_bounded_pause(headers, limited):
    assert 0 <= asked_pause_s(headers, NOW, limited=limited) <= LONGEST_RETRY_S
