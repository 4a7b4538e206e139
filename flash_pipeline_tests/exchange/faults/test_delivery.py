"""Each kind of fault that gives the true answer in another way, or none."""

import logging
import time

import pytest
import requests
from requests.exceptions import ChunkedEncodingError, ReadTimeout


def _fails(faulty, kind, error, timeout=5.0):
    with faulty(kind) as (faults, ask):
        with pytest.raises(error):
            ask(timeout=timeout)
        assert faults.counts == {kind: 1}
        assert ask().json()["retCode"] == 0  # on a new connection


def test_a_late_answer_is_whole(faulty):
    with faulty("latency", latency_ms=80) as (_, ask):
        started = time.perf_counter()
        assert ask("time").json()["retCode"] == 0
        assert time.perf_counter() - started >= 0.08


def test_a_hanging_request_gets_nothing(faulty):
    _fails(faulty, "read_timeout", ReadTimeout, timeout=0.2)


def test_a_server_does_not_wait_for_the_requests_that_it_hangs(faulty):
    with faulty("read_timeout") as (_, ask):
        with pytest.raises(ReadTimeout):
            ask(timeout=0.05)
        started = time.perf_counter()
    assert time.perf_counter() - started < 1.0


def test_a_connection_is_reset_before_the_answer(faulty):
    _fails(faulty, "reset_before_answer", requests.ConnectionError)


@pytest.mark.parametrize("kind", ["reset_in_body", "close_in_body"])
def test_a_body_breaks_off(faulty, kind):
    _fails(faulty, kind, ChunkedEncodingError)


def test_a_body_drips_faster_than_any_read_timeout(faulty):
    with faulty("drip_body") as (_, ask):
        started = time.perf_counter()
        answer = requests.get(ask.url + "/v5/market/time", stream=True, timeout=0.5)
        first = next(answer.iter_content(1))
        second = next(answer.iter_content(1))
        assert time.perf_counter() - started < 0.5
        assert first + second == b'{"'
        answer.close()


@pytest.mark.parametrize(
    "kind", ["read_timeout", "reset_before_answer", "reset_in_body", "close_in_body", "drip_body"]
)
def test_a_broken_connection_leaves_no_word_in_the_log(faulty, kind, caplog):
    caplog.set_level(logging.WARNING)
    with faulty(kind) as (_, ask), pytest.raises(requests.RequestException):
        ask(timeout=0.04)
    assert caplog.records == []
