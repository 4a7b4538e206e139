import pytest

from flash_pipeline.errors import InconsistentAnswer
from flash_pipeline.market import MARKET_HEADER
from flash_pipeline.transport import Answer, OneMarket


def _answer(market: str | None) -> Answer:
    headers = {} if market is None else {MARKET_HEADER.lower(): market}
    return Answer("https://first.test/x", 200, headers, b"{}")


def test_an_answer_without_a_label_is_of_the_live_market():
    market = OneMarket("the exchange")
    assert market.market is None
    market.require(_answer(None))
    assert market.market == "live"


@pytest.mark.parametrize(("first", "second"), [(None, "simulated"), ("replay", None)])
def test_another_market_than_that_of_the_first_answer_is_refused(first, second):
    market = OneMarket("the exchange")
    market.require(_answer(first))
    market.require(_answer(first))
    with pytest.raises(InconsistentAnswer, match=r"first\.test/x answers for the"):
        market.require(_answer(second))
