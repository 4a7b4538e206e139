import pytest

from flash_pipeline.defs.partitions import range_tags, require_begun, tagged_months
from flash_pipeline.errors import InvalidTimeRange
from flash_pipeline.market import Month, parse_instant

MAY, JUNE = Month(2024, 5), Month(2024, 6)


def test_the_months_of_a_range_are_read_from_its_tags():
    assert tagged_months(range_tags(MAY, JUNE)) == [MAY, JUNE]


def test_the_month_of_a_single_partition_is_read_from_its_tag():
    assert tagged_months({"dagster/partition": "2024-06"}) == [JUNE]


def test_a_run_without_months_has_none():
    assert tagged_months({"dagster/max_runtime": "10"}) is None


def test_a_month_has_begun_from_its_first_instant():
    require_begun(JUNE, parse_instant("2024-06-01"))
    with pytest.raises(InvalidTimeRange, match="2024-06 has not begun"):
        require_begun(JUNE, parse_instant("2024-06-01") - 1)
