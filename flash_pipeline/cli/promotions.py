"""`flash_pipeline promote`, `promotions` and `rollback`: who makes the forecasts, by hand."""

import getpass
import json
import os
import time
from typing import TYPE_CHECKING, Any

import click

from flash_pipeline.cli.output import json_option, print_json, print_table
from flash_pipeline.errors import DataError, InvalidInput, RunFailed

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from flash_pipeline.settings import Settings
    from flash_pipeline.training.tracking import RegisteredModel

_PATIENCE_S = 10.0


@click.command()
@click.argument("version", required=False)
def promote(version: str | None) -> None:
    """Make the challenger the champion, whatever the figures say.

    VERSION says which version you mean; it must be the challenger of the newest report. The log
    of promotions records it as forced, with your name.
    """
    import dagster as dg

    from flash_pipeline.defs.instance import prepare_instance
    from flash_pipeline.evaluation import Contest
    from flash_pipeline.settings import Settings
    from flash_pipeline.storage.lock import claim_home
    from flash_pipeline.training.tracking import CHAMPION, Registry

    settings, who = Settings.from_environment(), _user()
    if not settings.contest.is_file():
        raise DataError(f"there is no challenger in {settings.home}: run the job first (make run)")
    os.environ["DAGSTER_HOME"] = str(prepare_instance(settings))
    with dg.DagsterInstance.get() as instance, claim_home(settings.home):
        challenger = Contest.load(settings.contest).challenger.version
        if version not in (None, challenger):
            raise InvalidInput(
                f"version {version!r} is not the challenger: expected {challenger}; an earlier "
                "champion is given its place back by flash_pipeline rollback"
            )
        registry = Registry(settings)
        holder = registry.at(CHAMPION)
        if holder is not None and holder.version == challenger:
            click.echo(f"Version {challenger} is the champion already.")
            return
        _materialize_champion(instance, who)
        champion = registry.require(CHAMPION)
    before = f"in place of version {holder.version}" if holder is not None else "the first one"
    click.echo(f"Champion is version {champion.version}, {before}. {_prospect(settings, champion)}")


@click.command()
@click.option("--reason", default="", metavar="TEXT", help="Why, for the log.")
def rollback(reason: str) -> None:
    """Give the place back to the champion before the present one.

    The version that loses it is promoted again by force only (flash_pipeline promote).
    """
    import dagster as dg

    from flash_pipeline.defs.instance import prepare_instance
    from flash_pipeline.evaluation import roll_back
    from flash_pipeline.settings import Settings
    from flash_pipeline.storage.lock import claim_home
    from flash_pipeline.storage.warehouse import open_warehouse
    from flash_pipeline.training.tracking import Registry

    settings, who = Settings.from_environment(), _user()
    os.environ["DAGSTER_HOME"] = str(prepare_instance(settings))
    with dg.DagsterInstance.get() as instance, claim_home(settings.home):
        registry = Registry(settings)
        with open_warehouse(settings.warehouse, wait_s=_PATIENCE_S) as connection:
            restored = roll_back(
                registry,
                connection,
                who=who,
                decided_at=int(time.time() * 1000),
                reason=reason,
            )
        _tell_dagster(instance, restored.version, who, reason)
    click.echo(f"Champion is version {restored.version} again. {_prospect(settings, restored)}")


@click.command()
@click.option(
    "--last", default=20, show_default=True, type=click.IntRange(min=1), help="Newest rows only."
)
@json_option
def promotions(last: int, as_json: bool) -> None:
    """Show promotions, refusals and rollbacks, the newest at the end."""
    from flash_pipeline.settings import Settings

    rows = _stored(Settings.from_environment(), last)
    if as_json:
        print_json({"promotions": rows})
    elif not rows:
        click.echo("No decision yet: the first run makes one.")
    else:
        _print(rows)


def _user() -> str:
    """Return the user's name, or the number where the machine has no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid {os.getuid()}"


def _prospect(settings: "Settings", champion: "RegisteredModel") -> str:
    """Say whether the next run can forecast with a champion, by the windows that are stored."""
    from flash_pipeline.evaluation.fitness import misfit, obsolete
    from flash_pipeline.training.bundle import ModelBundle
    from flash_pipeline.windows import read_windows

    bundle = champion.opened
    try:
        frame = read_windows(settings.windows)
    except DataError:
        return "The next run forecasts with it where it fits that run's windows."
    why = obsolete(bundle, frame)
    if not why and isinstance(bundle, ModelBundle):
        why = misfit(bundle, frame)
    if not why:
        return "The next run forecasts with it."
    return (
        f"Warning: it {why}, so a run on such windows makes no forecast: restore its "
        "configuration, or promote the challenger (flash_pipeline promote)."
    )


def _materialize_champion(instance: "DagsterInstance", who: str) -> None:
    """Materialize the champion alone, with force, as the launchpad would."""
    import dagster as dg

    from flash_pipeline.definitions import defs
    from flash_pipeline.defs.failures import failure_reason
    from flash_pipeline.defs.jobs import JOB_NAME

    result = defs.resolve_job_def(JOB_NAME).execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey("champion")],
        run_config={
            "ops": {"champion": {"config": {"force": True, "who": who}}},
            "loggers": {"console": {"config": {"log_level": "INFO"}}},
        },
        raise_on_error=False,
    )
    if not result.success:
        raise RunFailed(failure_reason(result))


def _tell_dagster(instance: "DagsterInstance", version: str, who: str, reason: str) -> None:
    """Record the rollback as a materialization, so that the UI shows the champion there is."""
    import dagster as dg

    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            asset_key="champion",
            description=f"rolled back by {who}",
            metadata={"version": version, "promoted": False, "reason": reason or "rolled back"},
            tags={"dagster/data_version": version},
        )
    )


def _stored(settings: "Settings", last: int) -> list[dict[str, Any]]:
    from flash_pipeline.evaluation import read_promotions
    from flash_pipeline.market import iso_utc
    from flash_pipeline.storage.warehouse import open_warehouse

    with open_warehouse(settings.warehouse, read_only=True, wait_s=_PATIENCE_S) as connection:
        rows: list[dict[str, Any]] = read_promotions(connection, last).to_pylist()
    for row in rows:
        row["figures"] = json.loads(row["figures"])
        row["decided_at_utc"] = iso_utc(row["decided_at"])
    return rows


def _print(rows: list[dict[str, Any]]) -> None:
    lines = [
        (
            str(row["number"]),
            row["decided_at_utc"],
            row["action"] + (" by force" if row["forced"] and row["action"] == "promoted" else ""),
            f"{row['champion'] or 'none'} -> {row['challenger']}",
            row["who"],
            row["reason"],
        )
        for row in rows
    ]
    print_table(("no.", "at", "action", "version", "by", "reason"), lines, right=("no.",))
