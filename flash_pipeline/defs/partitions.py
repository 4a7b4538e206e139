"""Partitions by calendar month."""

import dagster as dg

from flash_pipeline.market import Month

FIRST_MONTH = "2020-03"
"""Month in which the exchange listed its first linear perpetual."""

MONTHS = dg.MonthlyPartitionsDefinition(start_date=FIRST_MONTH, fmt="%Y-%m", end_offset=1)
"""One partition per month, the current one included."""

RANGE_START_TAG = "dagster/asset_partition_range_start"
"""Run tag: first month of the run."""

RANGE_END_TAG = "dagster/asset_partition_range_end"
"""Run tag: last month of the run."""


def range_tags(first: Month, last: Month) -> dict[str, str]:
    """Return the tags that make one run of the months `first` to `last`."""
    return {RANGE_START_TAG: str(first), RANGE_END_TAG: str(last)}


def run_months(context: dg.AssetExecutionContext) -> tuple[Month, Month]:
    """Return the first and last month that a run is to materialize."""
    span = context.partition_key_range
    return Month.parse(span.start), Month.parse(span.end)
