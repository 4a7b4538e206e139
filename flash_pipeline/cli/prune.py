"""`flash_pipeline prune`: what has grown old goes."""

import os
from collections.abc import Callable

import click

from flash_pipeline.cli.used_home import require_used_home
from flash_pipeline.errors import RunFailed
from flash_pipeline.storage.limits import LIMITS

_SHOWN = 40


def _with_limits(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each limit, in their order."""
    for name, limit in reversed(list(LIMITS.items())):
        option = click.option(
            f"--{name.replace('_', '-')}",
            type=click.IntRange(1, limit.most),
            default=limit.usual,
            show_default=True,
            help=limit.words,
        )
        command = option(command)
    return command


@click.command()
@click.option("--dry-run", is_flag=True, help="List what would go, and touch nothing.")
@_with_limits
def prune(dry_run: bool, **limits: int) -> None:
    """Remove old reports, checkpoints, models, MLflow runs and Dagster's records.

    As the daily job `retention` does; the options are the fields of its configuration.
    """
    import dagster as dg

    from flash_pipeline.defs.instance import prepare_instance
    from flash_pipeline.defs.retention import RetentionConfig
    from flash_pipeline.defs.retention import prune as prune_home
    from flash_pipeline.market import iso_utc
    from flash_pipeline.settings import Settings
    from flash_pipeline.storage.lock import claim_home

    settings = Settings.from_environment()
    require_used_home(settings, model=False)
    os.environ["DAGSTER_HOME"] = str(prepare_instance(settings))
    with dg.DagsterInstance.get() as instance, claim_home(settings.home):
        pruning = prune_home(settings, instance, RetentionConfig(dry_run=dry_run, **limits))
    for item in pruning.items[:_SHOWN]:
        click.echo(f"{item.kind:<14} {item.size:>14,}  {iso_utc(item.time)}  {item.name}")
    if len(pruning.items) > _SHOWN:
        click.echo(f"... and {len(pruning.items) - _SHOWN} more")
    verb = "would go" if dry_run else "removed"
    for kind, (count, size) in pruning.by_kind().items():
        click.echo(f"{count:>6} x {kind:<14} {verb}, {size:,} bytes")
    click.echo(f"{len(pruning.items)} in all {verb}, {pruning.size:,} bytes")
    if pruning.failed:
        item, reason = pruning.failed[0]
        raise RunFailed(f"{len(pruning.failed)} stay, first {item.kind} {item.name}: {reason}")
