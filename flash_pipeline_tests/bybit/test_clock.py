import pytest

from flash_pipeline.errors import InconsistentAnswer, MalformedAnswer

NOW = 1688639403423
PARTS = {"timeSecond": "1688639403", "timeNano": "1688639403423213947"}


def test_the_clock_is_the_envelopes_time(scripted, envelope):
    client, script = scripted(envelope(PARTS, time=NOW))
    assert client.server_time() == NOW
    assert client.now() == NOW
    assert script.asked[0].path == "/v5/market/time"
    assert script.asked[0].query == {}


def test_an_answer_without_its_parts_is_enough(scripted, envelope):
    client, _ = scripted(envelope(time=7))
    assert client.server_time() == 7


@pytest.mark.parametrize(
    "parts", [{**PARTS, "timeSecond": "1688642999"}, {**PARTS, "timeNano": "1688639396000000000"}]
)
def test_parts_that_tell_different_times_are_asked_for_again(scripted, envelope, parts):
    client, script = scripted(envelope(parts, time=NOW), envelope(PARTS, time=NOW))
    assert client.server_time() == NOW
    assert len(script.asked) == 2


def test_parts_that_keep_telling_different_times_are_inconsistent(scripted, envelope):
    client, _ = scripted(envelope(PARTS, time=NOW + 3_600_000))
    with pytest.raises(InconsistentAnswer, match="different times at once"):
        client.server_time()


@pytest.mark.parametrize("part", sorted(PARTS))
@pytest.mark.parametrize("value", [1688639403, "", "x", "1e9", "9" * 30, []])
def test_a_part_that_is_no_string_of_digits_is_malformed(scripted, envelope, part, value):
    client, _ = scripted(envelope({**PARTS, part: value}, time=NOW))
    with pytest.raises(MalformedAnswer, match=rf"result\.{part}"):
        client.server_time()


@pytest.mark.parametrize("moment", [None, "1746288000500", 1.5, True])
def test_a_time_that_is_no_integer_is_malformed(scripted, envelope, moment):
    client, _ = scripted(envelope(time=moment))
    with pytest.raises(MalformedAnswer, match="time is "):
        client.server_time()
