import asyncio

import pytest
import requests

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.exchange import Clock, embedded_exchange
from flash_pipeline.exchange.answer import Answer, answer_of
from flash_pipeline.exchange.ratelimit import RateLimit

SCOPE = {"type": "http", "path": "/v5/market/time"}


async def _app(scope, receive, send):
    await Answer.text(200, "fine", "text/plain").send(send)


class _Limited:
    """Two requests in five seconds, on a clock that the test moves."""

    def __init__(self):
        self.seconds = 0.0
        self.limit = RateLimit(_app, 2, lambda: 1_000_000, monotonic=lambda: self.seconds)

    def ask(self, path="/v5/market/time"):
        return asyncio.run(answer_of(self.limit, {**SCOPE, "path": path}, None))


@pytest.fixture
def limited():
    return _Limited()


def test_every_answer_tells_what_is_left(limited):
    first, second = limited.ask(), limited.ask()
    assert (first.headers["x-bapi-limit"], first.headers["x-bapi-limit-status"]) == ("2", "1")
    assert second.headers["x-bapi-limit-status"] == "0"
    assert first.headers["x-bapi-limit-reset-timestamp"] == "1005000"


def test_more_than_the_limit_is_code_10006_until_the_renewal(limited):
    answers = [limited.ask() for _ in range(3)]
    assert [a.body for a in answers[:2]] == [b"fine", b"fine"]
    assert (answers[2].status, answers[2].json()["retCode"]) == (200, 10006)
    limited.seconds = 5.0
    assert limited.ask().body == b"fine"


def test_more_than_twice_the_limit_is_a_ban_of_ten_minutes(limited):
    assert [limited.ask().status for _ in range(5)] == [200, 200, 200, 200, 403]
    limited.seconds = 599.0
    refused = limited.ask()
    assert refused.headers["content-type"] == "text/html"
    assert b"access too frequent" in refused.body
    limited.seconds = 605.0
    assert limited.ask().body == b"fine"


def test_the_record_of_faults_is_not_limited(limited):
    assert all(limited.ask("/faults").body == b"fine" for _ in range(9))


def test_a_limit_of_nothing_is_refused():
    with (
        pytest.raises(InvalidConfig, match="rate limit 0"),
        embedded_exchange(rate_limit=0),
    ):
        pass


def test_the_server_limits_when_it_is_told_to():
    with embedded_exchange(clock=Clock(0, speed=0), rate_limit=1) as url:
        first, second = (requests.get(f"{url}/v5/market/time", timeout=10) for _ in range(2))
    assert first.headers["X-Bapi-Limit-Status"] == "0"
    assert [first.json()["retCode"], second.json()["retCode"]] == [0, 10006]
