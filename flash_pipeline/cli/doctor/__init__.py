"""`flash_pipeline doctor`: what is wrong with the machine or the settings, and how to mend it."""

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator

import click

from flash_pipeline.cli.doctor.finding import Finding, worst
from flash_pipeline.cli.output import console, json_option, print_json
from flash_pipeline.settings import error_line

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
_NAME_WIDTH = 12
_BROKEN = "look at what the error names: a driver, a library or a file that is damaged"


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Examine the machine and the settings, and say how to mend what is wrong.

    Exit status 1 where anything fails; a warning alone is 0.
    """
    findings = []
    for finding in _examine():
        findings.append(finding)
        if not as_json:
            _print(finding)
    status = worst(findings)
    if as_json:
        print_json({"status": status, "findings": [dataclasses.asdict(each) for each in findings]})
    else:
        counts = {name: sum(each.status == name for each in findings) for name in _STYLES}
        click.echo("\n" + ", ".join(f"{number} {name}" for name, number in counts.items()))
    sys.exit(1 if status == "fail" else 0)


def _examine() -> Iterator[Finding]:
    """Yield findings as they come, those on the machine first."""
    from flash_pipeline.cli.doctor import home, machine, services, variables

    yield from _guarded("packages", machine.check_packages)
    yield from _guarded("gpu", machine.check_gpu)
    settings = variables.read_settings(os.environ)
    if isinstance(settings, Finding):
        yield settings
        yield from variables.check_variables(os.environ)
        return
    dagster_home = os.environ.get("DAGSTER_HOME")
    yield from _guarded("attention", lambda: machine.check_attention(settings.recipe))
    yield from _guarded("lightgbm", machine.check_boosting)
    yield from variables.check_variables(os.environ)
    yield from _guarded("home", lambda: home.check_folders(settings, dagster_home))
    yield from _guarded("disk", lambda: [home.check_disk(settings)])
    yield from _guarded("run", lambda: [home.check_run(settings)])
    yield from _guarded("warehouse", lambda: [home.check_warehouse(settings)])
    yield from _guarded("mlflow", lambda: [services.check_tracking(settings)])
    yield from _guarded("port 3000", lambda: [services.check_port("Dagster", 3000, settings)])
    yield from _guarded("port 5000", lambda: [services.check_port("MLflow", 5000, settings)])
    yield from _guarded("exchange", lambda: services.check_exchange(settings))
    yield from _guarded("yahoo", lambda: services.check_yahoo(settings))


def _guarded(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """Return what a check finds; one that breaks is a finding itself, and the next ones go on."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001  (what is looked at may be broken in any way)
        return [Finding(name, "fail", f"cannot be examined: {error_line(error)}", _BROKEN)]


def _print(finding: Finding) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=4)
    grid.add_column(width=_NAME_WIDTH)
    grid.add_column(overflow="fold")
    grid.add_row(Text(finding.status, _STYLES[finding.status]), finding.check, Text(finding.found))
    if finding.mend:
        grid.add_row("", "", Text(f"-> {finding.mend}", "bold"))
    console().print(grid)
