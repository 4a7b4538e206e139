"""`python -m MODULE`, for the two modules of Dagster that make a UI, with the guard before it.

    python -m flash_pipeline.cli.dagster_ui [--allow-host NAME]... -- dagster dev ...
    python -m flash_pipeline.cli.dagster_ui [--allow-host NAME]... -- dagster_webserver ...

The first is `dagster dev` as it is, but that it starts the second as its webserver. Dagster has no
option for what stands before its app, so one function of each module is wrapped here, in a process
that does nothing else. A function that a later Dagster lacks ends the process; tests fail where
one is there and no longer used.
"""

import runpy
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TypeAlias

import click
from starlette.types import ASGIApp

from flash_pipeline.cli.dagster_ui.command import WEBSERVER, guarded_command
from flash_pipeline.cli.dagster_ui.guard import guarded

Start: TypeAlias = Callable[..., object]
Create: TypeAlias = Callable[..., ASGIApp]


def _guard_dev(names: Sequence[str]) -> None:
    """Let `dagster dev` start a guarded webserver."""
    dev = import_module("dagster._cli.dev")
    start: Start = dev.open_ipc_subprocess

    def start_guarded(parts: Sequence[str], **options: object) -> object:
        if list(parts[1:3]) == ["-m", WEBSERVER]:
            parts = guarded_command([WEBSERVER, *parts[3:]], names)
        return start(parts, **options)

    vars(dev)["open_ipc_subprocess"] = start_guarded


def _guard_webserver(names: Sequence[str]) -> None:
    """Let `dagster_webserver` serve a guarded app."""
    cli = import_module("dagster_webserver.cli")
    create: Create = cli.create_app_from_workspace_process_context

    def create_guarded(*arguments: object, **options: object) -> ASGIApp:
        return guarded(create(*arguments, **options), names)

    vars(cli)["create_app_from_workspace_process_context"] = create_guarded


_GUARDS = {"dagster": _guard_dev, WEBSERVER: _guard_webserver}


@click.command()
@click.option("--allow-host", "names", multiple=True)
@click.argument("module", type=click.Choice(list(_GUARDS)))
@click.argument("arguments", nargs=-1)
def main(names: tuple[str, ...], module: str, arguments: tuple[str, ...]) -> None:
    """Run a module of Dagster, with the guard before its UI."""
    _GUARDS[module](names)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
