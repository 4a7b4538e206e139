"""One backfill in a process of its own: what the other benchmarks kill, starve and measure.

    python backfill.py URL HOME [--symbols N] [--first YYYY-MM] [--last YYYY-MM]

Prints `ready` before the first request, and a line of JSON at the end.
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

from common import FIRST, LAST, SYMBOLS, Home

from flash_pipeline.bybit import BybitClient
from flash_pipeline.errors import FlashPipelineError
from flash_pipeline.market import Month

NOBODY = 65_534


def main() -> int:
    """Refresh, and say what it took; 3 where it failed with an error of the tree."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("home", type=Path)
    parser.add_argument("--symbols", type=int, help="as many as this of all that are listed")
    parser.add_argument("--first", type=Month.parse, default=FIRST)
    parser.add_argument("--last", type=Month.parse, default=LAST)
    parser.add_argument("--file-bytes", type=int, help="largest file that can be written")
    parser.add_argument("--nobody", action="store_true", help="give up the rights of root")
    options = parser.parse_args()
    if options.file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.file_bytes, options.file_bytes))
    if options.nobody:
        os.setuid(NOBODY)
    with BybitClient(options.url) as client:
        symbols = SYMBOLS if options.symbols is None else listed(client)[: options.symbols]
        print("ready", flush=True)
        started = time.perf_counter()
        try:
            done = Home(options.home).refresh(client, symbols, options.first, options.last)
        except (FlashPipelineError, OSError) as error:
            print(json.dumps({"error": type(error).__name__, "message": str(error)}))
            return 3
        took = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {
        "symbols": len(symbols),
        "candles": done.rows,
        "requests": done.requests,
        "seconds": round(took, 3),
        "peak_rss_mib": round(peak, 1),
    }
    print(json.dumps(figures))
    return 0


def listed(client: BybitClient) -> list[str]:
    """Return every symbol that trades."""
    return [str(instrument["symbol"]) for instrument in client.instruments()]


if __name__ == "__main__":
    sys.exit(main())
