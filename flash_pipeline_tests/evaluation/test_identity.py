"""Shape letters: T bars, S symbols."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from flash_pipeline.backtest import Account, Costs, Prices
from flash_pipeline.evaluation import Terms
from flash_pipeline.evaluation.identity import contest_digest
from flash_pipeline.evaluation.rivals import Rival
from flash_pipeline.evaluation.terms import open_venue

HOUR_MS = 3_600_000
MADE_AT = HOUR_MS * np.arange(1, 31)
PRICES = Prices(HOUR_MS * np.arange(30), *np.full((2, 30, 1), 100.0), ("BTCUSDT",))
RIDGE = Rival("ridge", None, 1.0, 0)


def settled(rate, hours=(0, 8, 16, 24)):
    table = {"symbol": ["BTCUSDT"] * len(hours), "funding_time": [h * HOUR_MS for h in hours]}
    return pa.table({**table, "rate": [rate] * len(hours)})


def lots(step):
    row = {"symbol": "BTCUSDT", "qty_step": step, "min_order_qty": 0.0, "min_notional_value": 5.0}
    return pa.Table.from_pylist([row])


BASE = Terms(instruments=lots(0.1), funding=settled(1e-4))


def digest(terms=BASE, made_at_N=MADE_AT, baselines=(RIDGE,)):
    return contest_digest(open_venue(terms, PRICES), made_at_N, baselines)


@pytest.mark.parametrize(
    "change",
    [
        {"costs": Costs(fee_rate=0.0)},
        {"account": Account(capital=1e6)},
        {"gross_cap": 0.5},
        {"symbol_cap": 0.5},
        {"instruments": lots(0.2)},
        {"instruments": None},
        {"funding": settled(2e-4)},
        {"funding": None},
    ],
)
def test_other_terms_make_another_contest(change):
    assert digest(dataclasses.replace(BASE, **change)) != digest()


def test_another_field_or_other_dates_make_another_contest():
    assert digest(baselines=()) != digest()
    assert digest(baselines=(dataclasses.replace(RIDGE, seen_until=1),)) != digest()
    assert digest(made_at_N=MADE_AT[1:]) != digest()


def test_what_touches_no_bar_leaves_the_contest_the_same():
    later = dataclasses.replace(BASE, funding=settled(1e-4, (0, 8, 16, 24, 32)))
    unlisted = pa.concat_tables([lots(0.1), lots(0.5).set_column(0, "symbol", [["X"]])])
    assert digest(later) == digest()
    assert digest(dataclasses.replace(BASE, instruments=unlisted)) == digest()
