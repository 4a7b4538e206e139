"""`flash_pipeline evaluate`: every model over the folds of a walk-forward."""

import os
from typing import TYPE_CHECKING, Any

import click

from flash_pipeline.cli.output import json_option, print_json, print_table
from flash_pipeline.errors import NotEnoughHistory, RunFailed

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from flash_pipeline.defs.resources import PipelineResource
    from flash_pipeline.settings import Settings

MOST_FOLDS = 5
"""Partitions of `walk_forward_folds`, known here without loading Dagster."""


@click.command()
@click.option("--show", is_flag=True, help="Print what is stored, and run nothing.")
@click.option("--folds", type=click.IntRange(1, MOST_FOLDS), help="Test ranges; by default all.")
@click.option("--models", metavar="A,B", help="Only these; by default all but the ensemble.")
@click.option("--growth", type=click.Choice(["expanding", "rolling"]), help="Of a fold's past.")
@click.option(
    "--embargo", type=click.IntRange(0), metavar="BARS", help="Left out before each next range."
)
@click.option("--fresh", is_flag=True, help="Begin anew though the last one is not finished.")
@click.option("--recipe", metavar="NAME", help="auto, demo, seed or full: that of the windows.")
@click.option("--symbols", metavar="A,B", help="By default those of the windows.")
@json_option
def evaluate(
    show: bool, recipe: str | None, symbols: str | None, as_json: bool, **plan: object
) -> None:
    """Train every model on each fold's past, predict its test range, and print the measures.

    The folds are of the stored windows, so a run comes first. What is stored of an unfinished
    walk-forward is kept: after a failure, only what is missing is run again.
    """
    from flash_pipeline.settings import Settings

    settings = Settings.from_environment()
    if not show:
        from flash_pipeline.defs.resources import PipelineResource
        from flash_pipeline.windows import read_windows

        if symbols is None:
            listed = list(read_windows(settings.windows).symbols)
        else:
            listed = symbols.split(",")
        pipeline = PipelineResource(recipe=recipe, symbols=listed)
        pipeline.resolve()
        _run(settings, pipeline, _plan_config(plan))
    _print(settings, as_json=as_json)


def _plan_config(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given, as `walk_forward_plan` takes them."""
    config = {name: value for name, value in options.items() if value is not None}
    if "models" in config:
        config["models"] = config["models"].split(",")
    return config


def _run(settings: "Settings", pipeline: "PipelineResource", config: dict[str, Any]) -> None:
    """Run the folds one by one, each as a run of its own that holds the home for its time only."""
    import dagster as dg

    from flash_pipeline.defs.instance import prepare_instance
    from flash_pipeline.evaluation.walk_plan import load_plan
    from flash_pipeline.storage.lock import claim_home

    os.environ["DAGSTER_HOME"] = str(prepare_instance(settings))
    with dg.DagsterInstance.get() as instance:
        with claim_home(settings.home):  # where another run is active, say so and stop
            _require(_materialize(instance, pipeline, None, config, "walk_forward_plan"))
        failures = {
            number: _materialize(instance, pipeline, number, {}, "walk_forward_folds")
            for number in range(1, load_plan(settings.walk_forward).config.folds + 1)
        }
        failed = {number: reason for number, reason in failures.items() if reason is not None}
        if failed:
            number, reason = next(iter(failed.items()))
            raise RunFailed(
                f"fold {number}: {reason}; {len(failed)} of {len(failures)} folds failed, the rest "
                "is stored: the same command goes on with what is missing"
            )
        _require(_materialize(instance, pipeline, None, {}, "walk_forward"))


def _require(reason: str | None) -> None:
    if reason is not None:
        raise RunFailed(reason)


def _materialize(
    instance: "DagsterInstance",
    pipeline: "PipelineResource",
    fold: int | None,
    config: dict[str, Any],
    asset: str,
) -> str | None:
    """Materialize an asset of the walk-forward; return why that failed, None where it did not."""
    import dagster as dg

    from flash_pipeline.definitions import defs
    from flash_pipeline.defs.failures import failure_reason
    from flash_pipeline.defs.jobs import WALK_FORWARD_JOB

    given = {name: value for name, value in pipeline.model_dump().items() if value is not None}
    result = defs.resolve_job_def(WALK_FORWARD_JOB).execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(asset)],
        partition_key=str(fold) if fold is not None else None,
        run_config={
            "resources": {"pipeline": {"config": given}},
            "ops": {asset: {"config": config}} if config else {},
            "loggers": {"console": {"config": {"log_level": "INFO"}}},
        },
        raise_on_error=False,
    )
    return None if result.success else failure_reason(result)


def _print(settings: "Settings", *, as_json: bool) -> None:
    import pyarrow.parquet as pq

    from flash_pipeline.evaluation.walk_figures import model_table, scope_table
    from flash_pipeline.evaluation.walk_plan import JOINED_FILE, SCORES_FILE
    from flash_pipeline.evaluation.walkforward import describe_predictions, read_predictions

    path = settings.walk_forward / SCORES_FILE
    if not path.is_file():
        raise NotEnoughHistory(
            f"no finished walk-forward in {settings.walk_forward}: run flash_pipeline evaluate"
        )
    scores = pq.read_table(path, partitioning=None)
    meta = describe_predictions(read_predictions(settings.walk_forward / JOINED_FILE))
    if as_json:
        print_json(
            {
                "snapshot": meta.snapshot,
                "synthetic": meta.synthetic,
                "symbols": meta.symbols,
                "interval": meta.interval,
                "horizon": meta.horizon,
                "folds": meta.folds,
                "scores": scores.to_pylist(),
            }
        )
        return
    market = "SYNTHETIC MARKET, " if meta.synthetic else ""
    first, last = meta.folds[0]["test"]["from"], meta.folds[-1]["test"]["to"]
    click.echo(f"Walk-forward, {market}{len(meta.folds)} folds, {first} to {last}, out of sample")
    _print_rows(model_table(scores))
    click.echo("Rank IC by symbol and month")
    _print_rows(scope_table(scores))


def _print_rows(rows: list[dict[str, str]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [[row.get(name, "") for name in columns] for row in rows]
    print_table(columns, lines, right=columns[1:])
