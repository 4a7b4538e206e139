import dataclasses

import numpy as np
import pytest

from flash_pipeline.backtest import Account, Costs, Lots, simulate, simulate_many, summarise
from flash_pipeline.backtest.sweep import CHUNK
from flash_pipeline.errors import InvalidInput

LOTS = Account(capital=500.0, lots=Lots(np.full(3, 0.01), np.full(3, 0.01), np.full(3, 5.0)))


@pytest.fixture
def sets(random_weights):
    return np.stack([random_weights(60, seed=seed) for seed in range(CHUNK + 3)])


@pytest.mark.parametrize("account", [None, LOTS])
@pytest.mark.parametrize("every", [1, 6])
def test_every_set_comes_out_as_if_simulated_alone(random_walk, sets, account, every):
    prices = random_walk(60)
    costs = [Costs(fee_rate=0.0001 * (1 + p)) for p in range(len(sets))]
    options = {"rebalance_every": every, "account": account}
    sweep = simulate_many(sets, prices, costs, bars_per_year=8_760, keep_equity=True, **options)
    assert sweep.equity_PT.shape == (len(sets), 60)
    for p in (0, 5, CHUNK, len(sets) - 1):
        alone = simulate(sets[p], prices, costs[p], **options)
        np.testing.assert_allclose(sweep.equity_PT[p], alone.equity_T, rtol=1e-12)
        expected = dataclasses.astuple(summarise(alone, 8_760))
        np.testing.assert_allclose(dataclasses.astuple(sweep.metrics[p]), expected, rtol=1e-9)


def test_sets_may_come_from_a_generator_and_share_their_costs(random_walk, sets):
    sweep = simulate_many((s_TS for s_TS in sets), random_walk(60), Costs(), bars_per_year=8_760)
    assert sweep.equity_PT is None
    assert sweep.column("sharpe_annual").shape == (len(sets),)
    assert len(set(sweep.column("total_return_fraction"))) == len(sets)


def test_a_bad_set_is_refused_as_alone(random_walk, sets):
    sets[CHUNK + 1, 4, 1] = np.nan
    with pytest.raises(InvalidInput, match="target weight of ETHUSDT at bar 4"):
        simulate_many(sets, random_walk(60), Costs(), bars_per_year=8_760)


def test_no_sets_and_too_few_costs_are_refused(random_walk, sets):
    with pytest.raises(InvalidInput, match="at least one set"):
        simulate_many([], random_walk(60), Costs(), bars_per_year=8_760)
    with pytest.raises(InvalidInput, match="fewer costs than sets"):
        simulate_many(sets, random_walk(60), [Costs()] * 5, bars_per_year=8_760)
