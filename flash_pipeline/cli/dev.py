"""`flash_pipeline dev`: the Dagster UI with its schedules, and the MLflow UI, on loopback."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

import click

from flash_pipeline.cli.dagster_ui.command import LOOPBACK_NAMES, guarded_command
from flash_pipeline.errors import InvalidInput

_LOOPBACK = "127.0.0.1"
_PATIENCE_S = 30.0


@click.command()
@click.option("--dagster-port", default=3000, show_default=True, help="Port of the Dagster UI.")
@click.option("--mlflow-port", default=5000, show_default=True, help="Port of the MLflow UI.")
@click.option(
    "--allow-host",
    "hosts",
    metavar="NAME",
    multiple=True,
    help="Let the UIs be called NAME too, as by a proxy; may be repeated.",
)
def dev(dagster_port: int, mlflow_port: int, hosts: tuple[str, ...]) -> None:
    """Serve the Dagster UI, with the hourly schedule on, and the MLflow UI, until Ctrl-C."""
    from flash_pipeline.defs.instance import prepare_instance
    from flash_pipeline.settings import Settings, redacted
    from flash_pipeline.training.tracking.server import server_command, server_environment

    settings = Settings.from_environment()
    names = [_name(host) for host in hosts]
    remote = settings.tracking_uri.startswith("http")
    for port in (dagster_port,) if remote else (dagster_port, mlflow_port):
        _require_free(port)
    environ = {
        **os.environ,
        "DAGSTER_HOME": str(prepare_instance(settings)),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
    }
    mlflow_url = redacted(settings.tracking_uri) if remote else f"http://{_LOOPBACK}:{mlflow_port}"
    commands = [_dagster_command(dagster_port, names)]
    if not remote:
        environ["FLASH_PIPELINE_MLFLOW_UI"] = settings.mlflow_ui or mlflow_url  # for links
        commands.append(server_command(settings, _LOOPBACK, mlflow_port, names))
    click.echo(f"Dagster UI  http://{_LOOPBACK}:{dagster_port}  (hourly schedule on)")
    click.echo(f"MLflow UI   {mlflow_url}  (Ctrl-C ends both)")
    if names:
        click.echo(
            f"Called {', '.join(names)} too: whoever reaches them is asked for no login here"
        )
    sys.exit(_supervise(commands, server_environment(settings, environ)))


def _dagster_command(port: int, names: Sequence[str] = ()) -> list[str]:
    """Return `dagster dev`, whose UI answers to loopback's names and these alone."""
    words = ("dagster", "dev", "-m", "flash_pipeline.definitions", "-h", _LOOPBACK, "-p", str(port))
    return guarded_command(words, names)


def _supervise(commands: list[list[str]], environ: dict[str, str]) -> int:
    """Run the commands until a signal comes or one of them ends, then end them all."""
    stopping = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    # Each in a session of its own, so that Ctrl-C reaches us alone and we end them in order.
    running = [
        subprocess.Popen(command, env=environ, start_new_session=True) for command in commands
    ]
    while not stopping and all(process.poll() is None for process in running):
        time.sleep(0.2)
    status = 0 if stopping else 1
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + _PATIENCE_S
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    return status


def _name(host: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", host):
        raise InvalidInput(
            f"--allow-host {host!r} is no name of a host: expected such as ui.example.org, "
            "without https:// and port"
        )
    if host.lower() in LOOPBACK_NAMES:
        raise InvalidInput(
            f"--allow-host {host!r} is a name of this machine, which the UIs answer to anyway, and "
            "would let in pages of all its ports: expected the name of a proxy"
        )
    return host.lower()


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError as error:
            raise InvalidInput(
                f"port {port} cannot be used: {error.strerror}; choose another with "
                "--dagster-port or --mlflow-port"
            ) from error
