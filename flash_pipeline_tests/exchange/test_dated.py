from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from flash_pipeline.exchange import Clock, Faults, FaultSpec, embedded_exchange
from flash_pipeline.market import MARKET_HEADER


@pytest.mark.parametrize("path", ["/v5/market/time", "/v8/finance/chart/BTC-USD"])
def test_an_answer_is_dated_by_the_exchanges_clock(path):
    with (
        embedded_exchange(clock=Clock(1719788400000, speed=0)) as url,
        urlopen(url + path) as answer,
    ):
        assert answer.headers.get_all("Date") == ["Sun, 30 Jun 2024 23:00:00 GMT"]


def test_an_injected_refusal_is_labelled_as_the_embedded_exchanges():
    faults = Faults(FaultSpec(rate=1.0, burst=9, kinds=("ban_403",)))
    with embedded_exchange(faults=faults) as url, pytest.raises(HTTPError) as caught:
        urlopen(f"{url}/v5/market/time")
    with caught.value as refused:
        assert refused.status == 403
        assert refused.headers.get_all(MARKET_HEADER) == ["simulated"]


def test_an_answer_of_the_exchange_is_labelled_once():
    with embedded_exchange() as url, urlopen(f"{url}/v5/market/time") as answer:
        assert answer.headers.get_all(MARKET_HEADER) == ["simulated"]
