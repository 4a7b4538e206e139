"""What a person may set for the backtest in the launchpad."""

import dagster as dg
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from flash_pipeline.backtest import Costs
from flash_pipeline.bybit import INSTRUMENT_SCHEMA
from flash_pipeline.defs.assets.backtest import CostsConfig
from flash_pipeline.defs.failures import failure_reason
from flash_pipeline.market import Month
from flash_pipeline.settings import Settings
from flash_pipeline.storage.funding import FundingStore
from flash_pipeline.training.baselines import BASELINES


def test_the_defaults_are_those_of_bybits_linear_perpetuals_with_impact():
    costs = CostsConfig().costs()
    assert costs == Costs(fee_rate=0.00055, maker_fee_rate=0.0002, impact=1.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fee_rate", 5.5),
        ("maker_share", 1.1),
        ("slippage_rate", -0.01),
        ("impact", 100.0),
        ("capital", 0.0),
        ("maintenance_rate", 1.0),
        ("gross_cap", 0.0),
        ("symbol_cap", -1.0),
    ],
)
def test_a_value_out_of_its_bounds_is_refused_by_name(field, value):
    with pytest.raises(ValidationError, match=field):
        CostsConfig(**{field: value})


def test_a_run_says_so_in_one_line():
    @dg.op
    def backtest(config: CostsConfig):
        """Take the configuration."""

    @dg.job
    def tried():
        backtest()

    result = tried.execute_in_process(
        run_config={"ops": {"backtest": {"config": {"fee_rate": 5.5, "capital": -1.0}}}},
        raise_on_error=False,
    )
    assert failure_reason(result) == (
        "backtest failed: fee_rate is 5.5: input should be less than or equal to 0.05; "
        "capital is -1.0: input should be greater than 0"
    )


def test_every_setting_says_what_it_is():
    assert all(field.description for field in CostsConfig.model_fields.values())
    assert all(name in CostsConfig.model_fields["baselines"].description for name in BASELINES)


def test_before_anything_is_stored_there_are_neither_lots_nor_funding(tmp_path):
    terms = CostsConfig().terms(Settings(home=tmp_path), ("BTCUSDT",))
    assert terms.instruments is None
    assert terms.funding.num_rows == 0


def test_lots_and_funding_can_be_left_out(tmp_path):
    settings = Settings(home=tmp_path)
    pq.write_table(INSTRUMENT_SCHEMA.empty_table(), settings.instruments)
    bare = CostsConfig(lots=False, funding=False).terms(settings, ("BTCUSDT",))
    assert (bare.instruments, bare.funding) == (None, None)
    assert CostsConfig().terms(settings, ("BTCUSDT",)).instruments is not None


def test_files_that_were_cut_off_are_left_out_by_name(tmp_path):
    settings = Settings(home=tmp_path)
    store = FundingStore(settings.funding)
    for path in (settings.instruments, store.path("BTCUSDT", Month(2024, 6))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"PAR1")
    terms = CostsConfig().terms(settings, ("BTCUSDT",))
    assert (terms.instruments, terms.funding) == (None, None)
    assert set(terms.unread) == {"Lots", "Funding"}
    assert all("parquet cannot be read" in reason for reason in terms.unread.values())
