"""`flash_pipeline exchange`: the embedded exchange on its own, on loopback."""

import signal
from pathlib import Path
from threading import Event

import click


@click.command()
@click.option("--port", default=8900, show_default=True, help="Port to listen on; 0 for any.")
@click.option(
    "--replay",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Serve recorded candles in place of a simulated market.",
)
@click.option("--now", metavar="ISO", help="Start its clock here; by default it is this machine's.")
@click.option("--speed", default=1.0, show_default=True, help="Its seconds per second.")
@click.option("--seed", type=int, help="Of the simulated market.")
@click.option("--instruments", metavar="N", type=int, help="Of the simulated market, 16 to 600.")
@click.option("--faults", metavar="SPEC", help="Inject faults: seed=7,rate=0.3 or a JSON file.")
@click.option("--rate-limit", metavar="N", type=int, help="Allow N requests in five seconds.")
def exchange(
    port: int,
    replay: Path | None,
    now: str | None,
    speed: float,
    seed: int | None,
    instruments: int | None,
    faults: str | None,
    rate_limit: int | None,
) -> None:
    """Serve the embedded exchange to this machine until Ctrl-C.

    It speaks Bybit's market API and Yahoo's chart endpoint, from a simulated market or from a
    recording.
    """
    from flash_pipeline.exchange import Clock, Faults, FaultSpec, embedded_exchange, open_market
    from flash_pipeline.market import parse_instant

    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    market = open_market(replay, seed, instruments)
    with embedded_exchange(
        market=market,
        clock=Clock(None if now is None else parse_instant(now), speed),
        faults=None if faults is None else Faults(FaultSpec.parse(faults)),
        rate_limit=rate_limit,
        port=port,
    ) as url:
        click.echo(f"{url} serves a {market.description}  (Ctrl-C ends it)")
        click.echo("To use it, in a home of its own:")
        click.echo(
            f"  FLASH_PIPELINE_BYBIT_URL={url} FLASH_PIPELINE_HOME=~/exchange flash_pipeline run"
        )
        stop.wait()
