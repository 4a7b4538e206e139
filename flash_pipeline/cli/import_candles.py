"""`flash_pipeline import`: candles of files into the home."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flash_pipeline.errors import InvalidInput

if TYPE_CHECKING:
    from flash_pipeline.archives import CandleFile
    from flash_pipeline.ingest.importing import SymbolImport

_FIGURES = ("files", "candles", "added", "differing", "incomplete", "months")


@click.command("import")
@click.argument(
    "paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["archive", "recording"]),
    help="Only months of Bybit's archive, or only recordings; by default what the names say.",
)
@click.option("--symbols", metavar="A,B", help="Only these symbols; by default all that are found.")
@click.option("--interval", metavar="CODE", help="Interval to store; by default 60.")
def import_candles(
    paths: tuple[Path, ...], file_format: str | None, symbols: str | None, interval: str | None
) -> None:
    """Add the candles of files and folders to those that are stored.

    Files are months of Bybit's archive (BTCUSDT_60_2024-06-01_2024-06-30.csv.gz) or recordings
    (BTCUSDT_60.parquet, BTCUSDT_60.csv). Candles that are stored already stay as they are.
    """
    # Pyarrow takes a while: not for `--help`.
    from flash_pipeline.archives import FORMATS, find_files
    from flash_pipeline.ingest.importing import import_files
    from flash_pipeline.market import Interval
    from flash_pipeline.settings import Settings
    from flash_pipeline.storage.klines import KlineStore
    from flash_pipeline.storage.lock import claim_home
    from flash_pipeline.training.recipes import DataConfig

    settings = Settings.from_environment()
    length = Interval.parse(DataConfig().interval if interval is None else interval)
    files = find_files(paths, (file_format,) if file_format else FORMATS)
    files = _of_symbols(files, symbols)
    settings.require_home()
    with claim_home(settings.home):
        store, now = KlineStore(settings.klines, length), int(time.time() * 1000)
        imported: list[SymbolImport] = []
        for each in import_files(files, store, now=now):
            _print_row(each, first=not imported)
            imported.append(each)
    _print_remarks(imported)
    click.echo(f"\nStored in {settings.klines}")


def _of_symbols(files: "list[CandleFile]", symbols: str | None) -> "list[CandleFile]":
    from flash_pipeline.market import parse_symbols

    if symbols is None:
        return files
    wanted = parse_symbols(symbols.split(","))
    missing = [symbol for symbol in wanted if symbol not in {file.symbol for file in files}]
    if missing:
        raise InvalidInput(f"symbol {missing[0]!r} has no candle file among those given")
    return [file for file in files if file.symbol in wanted]


def _print_row(done: "SymbolImport", *, first: bool) -> None:
    """Print what was imported of a symbol, below the names of the figures."""
    if first:
        click.echo(f"{'symbol':<14}" + "".join(f"{name:>12}" for name in _FIGURES))
    figures = (
        *(done.files, done.candles, done.added, done.differing, done.incomplete),
        done.months_written,
    )
    click.echo(f"{done.symbol:<14}" + "".join(f"{figure:>12,}" for figure in figures))


def _print_remarks(imported: "list[SymbolImport]") -> None:
    for done in imported:
        if done.first_difference is not None:
            click.echo(
                f"{done.symbol}: {done.differing:,} candles differ from the stored ones, which "
                f"stay; first {done.first_difference}"
            )
        if done.unproven:
            click.echo(
                f"{done.symbol}: {done.unproven:,} candles are the newest of their recording, and "
                "may have been forming then: left to the exchange"
            )
        if done.unclosed:
            click.echo(f"{done.symbol}: {done.unclosed:,} candles have not closed yet: left out")
