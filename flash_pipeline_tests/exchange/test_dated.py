from urllib.request import urlopen

import pytest

from flash_pipeline.exchange import Clock, embedded_exchange


@pytest.mark.parametrize("path", ["/v5/market/time", "/v8/finance/chart/BTC-USD"])
def test_an_answer_is_dated_by_the_exchanges_clock(path):
    with (
        embedded_exchange(clock=Clock(1719788400000, speed=0)) as url,
        urlopen(url + path) as answer,
    ):
        assert answer.headers.get_all("Date") == ["Sun, 30 Jun 2024 23:00:00 GMT"]
