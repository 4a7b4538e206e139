"""The command line, one module for each command; what is slow to load is imported inside."""

import os
import sys
from typing import NoReturn

import click

from flash_pipeline.cli.audit import audit
from flash_pipeline.cli.collect_book import collect_book
from flash_pipeline.cli.dev import dev
from flash_pipeline.cli.doctor import doctor
from flash_pipeline.cli.evaluate import evaluate
from flash_pipeline.cli.exchange import exchange
from flash_pipeline.cli.forecast import forecast
from flash_pipeline.cli.import_candles import import_candles
from flash_pipeline.cli.promotions import promote, promotions, rollback
from flash_pipeline.cli.prune import prune
from flash_pipeline.cli.run import run
from flash_pipeline.errors import FlashPipelineError

_OF_LIBRARIES = {
    ("duckdb", "Error"),
    ("mlflow", "MlflowException"),
    ("sqlalchemy", "SQLAlchemyError"),
    ("sqlite3", "Error"),
    ("builtins", "OSError"),
}
"""Errors that a store, a disk or a network causes: by package and name, for none is imported."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="flash-pipeline")
def cli() -> None:
    """Raw Bybit candles to hourly forecasts by a FlashAttention transformer."""


cli.add_command(run)
cli.add_command(dev)
cli.add_command(import_candles)
cli.add_command(forecast)
cli.add_command(promote)
cli.add_command(promotions)
cli.add_command(rollback)
cli.add_command(audit)
cli.add_command(evaluate)
cli.add_command(exchange)
cli.add_command(doctor)
cli.add_command(prune)
cli.add_command(collect_book)


def main() -> NoReturn:
    """Run the command line; an error raised on purpose is one line and exit status 1.

    So is one of a store, a disk or a network. Any other is a fault of the code, with its traceback.
    """
    status: object = 0
    try:
        cli()
    except SystemExit as leave:
        status = leave.code
    except FlashPipelineError as error:
        _tell(str(error))
        status = 1
    except Exception as error:
        if not _is_of_a_library(error):
            raise
        _tell(f"{type(error).__name__}: {error}")
        status = 1
    # By now everything is closed and stored. A normal exit would end with DuckDB 2.0's bindings
    # reporting dozens of "leaked" objects that the interpreter merely had no time to free.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


def _tell(message: str) -> None:
    from flash_pipeline.settings import redacted

    line = redacted(" ".join(message.split()))  # libraries put in line breaks
    click.echo(f"error: {line}", err=True)


def _is_of_a_library(error: Exception) -> bool:
    kinds = type(error).__mro__
    names = {(kind.__module__.partition(".")[0].lstrip("_"), kind.__name__) for kind in kinds}
    return not names.isdisjoint(_OF_LIBRARIES)
