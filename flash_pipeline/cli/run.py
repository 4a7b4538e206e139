"""`flash_pipeline run`: the whole graph, once."""

import os
import time
from typing import TYPE_CHECKING

import click

from flash_pipeline.errors import InvalidTimeRange, RunFailed

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from flash_pipeline.defs.resources import PipelineResource
    from flash_pipeline.market import Month
    from flash_pipeline.settings import Settings


@click.command()
@click.option("--from", "first", metavar="YYYY-MM", help="First month; by default 12 in all.")
@click.option("--to", "last", metavar="YYYY-MM", help="Last month; by default the current one.")
@click.option("--recipe", metavar="NAME", help="auto, demo, seed or full.")
@click.option("--symbols", metavar="A,B", help="Symbols such as BTCUSDT,ETHUSDT.")
@click.option("--promote", is_flag=True, help="Make the model champion whatever the figures say.")
def run(
    first: str | None, last: str | None, recipe: str | None, symbols: str | None, promote: bool
) -> None:
    """Materialize every asset once, from raw candles to forecasts.

    Months are those of the exchange's clock.
    """
    # Dagster and the definitions take most of a second: not for `--help`.
    import dagster as dg

    from flash_pipeline.cli.summary import print_summary
    from flash_pipeline.defs.instance import prepare_instance
    from flash_pipeline.defs.partitions import range_tags
    from flash_pipeline.defs.resources import PipelineResource
    from flash_pipeline.settings import Settings
    from flash_pipeline.storage.lock import claim_home

    settings = Settings.from_environment()
    os.environ["DAGSTER_HOME"] = str(prepare_instance(settings))
    pipeline = PipelineResource(
        recipe=recipe,
        symbols=symbols.split(",") if symbols is not None else None,
        start_month=first,
        end_month=last,
    )
    months = _months(pipeline, settings, first, last)
    with dg.DagsterInstance.get() as instance, claim_home(settings.home):
        _execute(instance, pipeline, range_tags(*months), promote=promote)
    print_summary(settings)


def _months(
    pipeline: "PipelineResource", settings: "Settings", first: str | None, last: str | None
) -> "tuple[Month, Month]":
    from flash_pipeline.defs.jobs import exchange_now
    from flash_pipeline.defs.partitions import FIRST_MONTH
    from flash_pipeline.market import Month, month_range

    recipe, listed = pipeline.resolve(), Month.parse(FIRST_MONTH)
    asked_first = Month.parse(first) if first is not None else None
    asked_last = Month.parse(last) if last is not None else None
    current = Month.containing(exchange_now(settings, int(time.time() * 1000)))
    newest = asked_last or current
    oldest = asked_first or max(listed, newest.shift(1 - recipe.data.months))
    next(month_range(oldest, newest))  # refuses a reversed range
    # A partition of either would be recorded as materialized, with nothing in it.
    if oldest < listed:
        raise InvalidTimeRange(f"month {oldest} is before {listed}, the exchange's first")
    if newest > current:
        raise InvalidTimeRange(f"month {newest} has not begun: the exchange's is {current}")
    return oldest, newest


def _execute(
    instance: "DagsterInstance",
    pipeline: "PipelineResource",
    tags: dict[str, str],
    *,
    promote: bool,
) -> None:
    from flash_pipeline.definitions import defs
    from flash_pipeline.defs.failures import failure_reason
    from flash_pipeline.defs.jobs import JOB_NAME

    config = {name: value for name, value in pipeline.model_dump().items() if value is not None}
    result = defs.resolve_job_def(JOB_NAME).execute_in_process(
        instance=instance,
        tags=tags,
        run_config={
            "resources": {"pipeline": {"config": config}},
            "ops": {"champion": {"config": {"force": promote}}},
            "loggers": {"console": {"config": {"log_level": "INFO"}}},
        },
        raise_on_error=False,
    )
    if not result.success:
        raise RunFailed(failure_reason(result))
