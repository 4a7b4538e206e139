"""Runs the exchange alone: `python -m flash_pipeline.exchange --help`."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event

from flash_pipeline.errors import FlashPipelineError
from flash_pipeline.exchange.clock import Clock
from flash_pipeline.exchange.faults import Faults, FaultSpec
from flash_pipeline.exchange.opening import open_market
from flash_pipeline.exchange.server import LOOPBACK, embedded_exchange
from flash_pipeline.exchange.simulation.market import DEFAULT_SEED
from flash_pipeline.market import parse_instant

_USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM, and return the exit code: 0, or 2 for an unusable option."""
    options = _parser().parse_args(arguments)
    try:
        _serve(options)
    except FlashPipelineError as error:
        sys.stderr.write(f"error: {error}\n")
        return _USAGE_ERROR
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flash_pipeline.exchange",
        description="Serve the Bybit v5 market API from a synthetic market or a recording.",
    )
    parser.add_argument("--replay", metavar="DIR", type=Path, help="serve the recording in DIR")
    parser.add_argument("--now", metavar="ISO", help="start the clock here (default: real time)")
    parser.add_argument("--speed", type=float, default=1.0, help="exchange seconds per second")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of the synthetic market")
    parser.add_argument(
        "--instruments", metavar="N", type=int, help="of the synthetic market, 16 to 600"
    )
    parser.add_argument(
        "--faults", metavar="SPEC", help="inject faults: seed=7,rate=0.3 or a JSON file"
    )
    parser.add_argument(
        "--rate-limit", metavar="N", type=int, help="allow N requests in five seconds"
    )
    parser.add_argument("--host", default=LOOPBACK, help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any)")
    return parser


def _serve(options: argparse.Namespace) -> None:
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    market = open_market(options.replay, options.seed, options.instruments)
    clock = Clock(None if options.now is None else parse_instant(options.now), options.speed)
    with embedded_exchange(
        market=market,
        clock=clock,
        faults=None if options.faults is None else Faults(FaultSpec.parse(options.faults)),
        rate_limit=options.rate_limit,
        host=options.host,
        port=options.port,
    ) as url:
        sys.stdout.write(f"{url} serves a {market.description}\n")
        sys.stdout.flush()
        stop.wait()


if __name__ == "__main__":
    sys.exit(main())
