"""Five hundred symbols for a year: what the client's memory grows to."""

import json
import subprocess
import sys
from pathlib import Path

from common import Result, exchange_process, print_table

SYMBOLS = 500
_LISTED = 530  # some of which are delisted by then
_NOW = "2027-01-01T00:30:00Z"
_YEAR = ("--first", "2026-01", "--last", "2026-12")  # all the others are listed by then
_BACKFILL = Path(__file__).with_name("backfill.py")


def measure(root: Path) -> Result:
    """Backfill the symbols in a process of its own, and print its table."""
    options = ("--instruments", str(_LISTED), "--now", _NOW)
    with exchange_process(*options) as (url, server):
        wanted = ("--symbols", str(SYMBOLS), *_YEAR)
        command = [sys.executable, str(_BACKFILL), url, str(root), *wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"the backfill failed: {done.stdout}{done.stderr}")
        figures: Result = json.loads(done.stdout.splitlines()[-1])
        server_peak = _peak_mib(server.pid)
    result = {
        "symbols": figures["symbols"],
        "candles stored": figures["candles"],
        "kline requests": figures["requests"],
        "seconds": figures["seconds"],
        "peak memory of the client, MiB": figures["peak_rss_mib"],
        "peak memory of the exchange, MiB": server_peak,
    }
    print_table("Many symbols, one year of hours", result.items())
    return result


def _peak_mib(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    return round(int(peak.split()[1]) / 1024, 1)
