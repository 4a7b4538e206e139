"""The command line: `flash_pipeline run`, `dev`, `import` and `collect-book`."""

import os
import sys
from typing import NoReturn

import click

from flash_pipeline.cli.collect_book import collect_book
from flash_pipeline.cli.dev import dev
from flash_pipeline.cli.import_candles import import_candles
from flash_pipeline.cli.run import run
from flash_pipeline.errors import FlashPipelineError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="flash-pipeline")
def cli() -> None:
    """Raw Bybit candles to hourly forecasts by a FlashAttention transformer."""


cli.add_command(run)
cli.add_command(dev)
cli.add_command(import_candles)
cli.add_command(collect_book)


def main() -> NoReturn:
    """Run the command line; an error raised on purpose is one line and exit status 1."""
    status: object = 0
    try:
        cli()
    except SystemExit as leave:
        status = leave.code
    except FlashPipelineError as error:
        click.echo(f"error: {error}", err=True)
        status = 1
    # By now everything is closed and stored. A normal exit would end with DuckDB 2.0's bindings
    # reporting dozens of "leaked" objects that the interpreter merely had no time to free.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)
