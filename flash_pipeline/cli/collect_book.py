"""`flash_pipeline collect-book`: order books into the home, until told to stop."""

import signal
from contextlib import ExitStack
from threading import Event
from types import FrameType

import click

_ATTEMPTS = 2  # of a poll: the next one comes soon


@click.command("collect-book")
@click.option("--symbols", metavar="A,B", default="BTCUSDT,ETHUSDT", show_default=True)
@click.option("--cadence", type=float, default=1.0, show_default=True, help="Seconds.")
@click.option("--levels", type=int, default=50, show_default=True, help="Of each side, to 1000.")
@click.option("--duration", type=float, help="Seconds; by default until SIGINT or SIGTERM.")
def collect_book(symbols: str, cadence: float, levels: int, duration: float | None) -> None:
    """Poll order books and store their snapshots by symbol and day.

    What was taken survives however this ends, and starting again goes on where it stopped.
    """
    # Pyarrow takes a while: not for `--help`.
    from flash_pipeline.bybit import BybitClient
    from flash_pipeline.exchange import embedded_exchange
    from flash_pipeline.order_book import CollectorConfig, collect
    from flash_pipeline.settings import Settings

    config = CollectorConfig(tuple(symbols.split(",")), cadence, levels)
    settings = Settings.from_environment()
    settings.require_home()
    stop = _stopped_by_signals()

    def wait(seconds: float) -> None:
        stop.wait(seconds)

    with ExitStack() as stack:
        urls = settings.bybit_urls or (stack.enter_context(embedded_exchange()),)
        client = stack.enter_context(
            BybitClient(
                urls,
                circuit_file=settings.bybit_circuit,
                sleep=wait,
                attempts=_ATTEMPTS,
                read_timeout_s=max(2.0, cadence),
            )
        )
        label = "  (SYNTHETIC MARKET)" if client.is_synthetic() else ""
        click.echo(f"Collecting {symbols} every {cadence:g} s, {levels} levels{label}")
        collected = collect(client, settings.order_book, config, stop, until_s=duration)
    for symbol in config.symbols:
        taken, missed = collected.snapshots[symbol], collected.missed[symbol]
        click.echo(f"{symbol:<14}{taken:>10,} snapshots{missed:>10,} missed")
    click.echo(f"Stored in {settings.order_book}")


def _stopped_by_signals() -> Event:
    stop = Event()

    def handle(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return stop
