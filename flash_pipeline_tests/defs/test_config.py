"""A run's configuration, checked before its first step."""

import pytest

from flash_pipeline.defs.config import check_configs
from flash_pipeline.errors import InvalidConfig


def run_config(**fields):
    return {"ops": {"backtest_report": {"config": fields}}}


def test_a_value_out_of_its_bounds_is_refused():
    with pytest.raises(InvalidConfig, match="config of backtest_report: fee_rate is 7"):
        check_configs(run_config(fee_rate=7))


def test_a_value_that_comes_from_the_environment_is_left_to_dagster():
    check_configs(run_config(fee_rate={"env": "FEE"}))
    check_configs(run_config(fee_rate={"env": "FEE"}, maker_fee_rate=0.0001))
    with pytest.raises(InvalidConfig, match="maker_fee_rate is 7"):
        check_configs(run_config(fee_rate={"env": "FEE"}, maker_fee_rate=7))


@pytest.mark.parametrize("config", [None, {}, {"config": None}, {"config": {}}])
def test_nothing_given_is_the_default(config):
    check_configs({"ops": {"backtest_report": config}})
