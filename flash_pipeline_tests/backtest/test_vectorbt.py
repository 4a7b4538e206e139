"""The engine beside an independent one, vectorbt's `from_orders`.

The golden file holds vectorbt's equity and is written by `python -m benchmarks.backtest --golden`.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from flash_pipeline.backtest import Costs, simulate

GOLDEN = Path(__file__).parent / "golden" / "vectorbt_from_orders.json"
EQUAL = 1e-9


@pytest.mark.parametrize("every", [1, 5])
def test_equity_equals_vectorbts_at_every_bar(make_prices, every):
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    prices = make_prices(golden["open"], golden["close"])
    costs = Costs(fee_rate=golden["fee"], slippage_rate=0.0)
    result = simulate(np.array(golden["target"]), prices, costs, rebalance_every=every)
    expected_T = np.array(golden["equity"][str(every)])
    assert np.abs(result.equity_T / expected_T - 1).max() < EQUAL
    assert abs(expected_T[-1] - 1) > 0.001  # not a comparison of cash with cash


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # vectorbt's own
@pytest.mark.parametrize("every", [1, 24])
def test_equity_equals_that_of_the_vectorbt_that_is_installed(every):
    pytest.importorskip("vectorbt", reason="installed by the extra vectorbt")
    from benchmarks.backtest import FEE, market, priced, vectorbt_equity

    open_TS, close_TS, target_TS = market(5_000, 5)
    costs = Costs(fee_rate=FEE, slippage_rate=0.0)
    ours = simulate(target_TS, priced(open_TS, close_TS), costs, rebalance_every=every)
    theirs_T = vectorbt_equity(open_TS, close_TS, target_TS, every)
    assert np.abs(ours.equity_T / theirs_T - 1).max() < EQUAL
