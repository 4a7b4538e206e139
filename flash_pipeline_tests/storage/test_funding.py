import pyarrow as pa
import pytest

from flash_pipeline.errors import FileDamaged, InvalidSymbol, SchemaMismatch
from flash_pipeline.market import FUNDING_SCHEMA, Month
from flash_pipeline.storage.files import write_parquet
from flash_pipeline.storage.funding import FundingStore

JUNE, JULY = Month(2024, 6), Month(2024, 7)


@pytest.fixture
def funding(tmp_path):
    return FundingStore(tmp_path / "funding")


def settlements(month: Month) -> pa.Table:
    times = [month.time_range.start + n * 28_800_000 for n in range(3)]
    return pa.table({"funding_time": times, "rate": [1e-4, -5e-3, 0.0]}, schema=FUNDING_SCHEMA)


def test_a_month_is_read_as_it_was_written(funding):
    funding.write_month("BTCUSDT", JUNE, settlements(JUNE), synthetic=True)
    assert funding.path("BTCUSDT", JUNE).name == "month=2024-06.parquet"
    assert funding.read_month("BTCUSDT", JUNE).equals(settlements(JUNE))


def test_nothing_stored_reads_as_no_funding(funding):
    assert funding.read_month("BTCUSDT", JUNE).num_rows == 0
    assert funding.read_all("BTCUSDT").schema.equals(FUNDING_SCHEMA)
    assert funding.months("BTCUSDT") == []
    funding.require_kind(synthetic=True)
    assert not funding.folder.exists()


def test_months_are_read_in_order(funding):
    for month in (JULY, JUNE):
        funding.write_month("BTCUSDT", month, settlements(month), synthetic=False)
    times = funding.read_all("BTCUSDT")["funding_time"].to_pylist()
    assert times == sorted(times)
    assert len(times) == 6


def test_other_columns_are_refused(funding):
    write_parquet(pa.table({"time": [1]}), funding.path("BTCUSDT", JUNE))
    with pytest.raises(SchemaMismatch, match="funding_time"):
        funding.read_month("BTCUSDT", JUNE)


@pytest.mark.parametrize("stored", [True, False])
def test_simulated_and_real_funding_are_not_mixed(funding, stored):
    funding.write_month("BTCUSDT", JUNE, settlements(JUNE), synthetic=stored)
    funding.require_kind(synthetic=stored)
    with pytest.raises(SchemaMismatch, match="FLASH_PIPELINE_HOME"):
        funding.require_kind(synthetic=not stored)


def test_a_malformed_symbol_never_reaches_a_path(funding):
    with pytest.raises(InvalidSymbol):
        funding.path("../../etc", JUNE)


def test_a_file_that_was_cut_off_is_named_and_does_not_decide_the_kind(funding):
    for month in (JUNE, JULY):
        funding.write_month("BTCUSDT", month, settlements(month), synthetic=True)
    path = funding.path("BTCUSDT", JUNE)
    path.write_bytes(path.read_bytes()[:-20])
    assert [funding.is_damaged("BTCUSDT", month) for month in (JUNE, JULY)] == [True, False]
    with pytest.raises(FileDamaged, match=r"month=2024-06\.parquet cannot be read"):
        funding.read_all("BTCUSDT")
    funding.require_kind(synthetic=True)
