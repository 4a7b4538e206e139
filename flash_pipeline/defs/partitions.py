"""Partitions by calendar month."""

from collections.abc import Mapping

import dagster as dg

from flash_pipeline.errors import InvalidTimeRange
from flash_pipeline.market import Month, month_range

FIRST_MONTH = "2020-03"
"""Month in which the exchange listed its first linear perpetual."""

MONTHS = dg.MonthlyPartitionsDefinition(start_date=FIRST_MONTH, fmt="%Y-%m", end_offset=1)
"""One partition per month, the current one included."""

RANGE_START_TAG = "dagster/asset_partition_range_start"
"""Run tag: first month of the run."""

RANGE_END_TAG = "dagster/asset_partition_range_end"
"""Run tag: last month of the run."""

PARTITION_TAG = "dagster/partition"
"""Run tag: the only month of the run."""


def range_tags(first: Month, last: Month) -> dict[str, str]:
    """Return the tags that make one run of the months `first` to `last`."""
    return {RANGE_START_TAG: str(first), RANGE_END_TAG: str(last)}


def tagged_months(tags: Mapping[str, str]) -> list[Month] | None:
    """Return the months that the tags of a run name, None where they name none."""
    one = tags.get(PARTITION_TAG)
    first, last = tags.get(RANGE_START_TAG, one), tags.get(RANGE_END_TAG, one)
    if first is None or last is None:
        return None
    return list(month_range(Month.parse(first), Month.parse(last)))


def run_months(context: dg.AssetExecutionContext) -> tuple[Month, Month]:
    """Return the first and last month that a run is to materialize."""
    span = context.partition_key_range
    return Month.parse(span.start), Month.parse(span.end)


def require_begun(month: Month, now: int) -> None:
    """Refuse a month that has not begun by the exchange's clock (ms since the epoch).

    Dagster would hold its partition for materialized, with nothing in it.

    Raises
    ------
    InvalidTimeRange
        With the month.
    """
    if month.time_range.start > now:
        raise InvalidTimeRange(f"month {month} has not begun by the exchange's clock")
