import math

import pytest

from flash_pipeline.backtest import Costs
from flash_pipeline.errors import InvalidConfig


def test_the_defaults_are_bybits_taker_fee_and_two_basis_points():
    assert Costs().rate == pytest.approx(0.00055 + 0.0002)


@pytest.mark.parametrize(("share", "fee"), [(0.0, 0.00055), (1.0, 0.0002), (0.4, 0.00041)])
def test_the_fee_is_the_mix_of_maker_and_taker_fills(share, fee):
    assert Costs(maker_share=share).mean_fee_rate == pytest.approx(fee)
    assert Costs(maker_share=share).rate == pytest.approx(fee + 0.0002)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fee_rate", 0.06),  # 6 basis points in another unit
        ("slippage_rate", -0.001),
        ("slippage_rate", math.nan),
        ("maker_fee_rate", 0.5),
        ("maker_share", 1.01),
        ("impact", -1.0),
        ("impact", math.inf),
    ],
)
def test_a_cost_out_of_range_is_refused_with_its_value(field, value):
    with pytest.raises(InvalidConfig, match=f"{field} is {value}: expected a number from 0 to"):
        Costs(**{field: value})
