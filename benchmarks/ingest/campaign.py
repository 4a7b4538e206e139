"""Backfills under injected faults, and what of the candles was lost, duplicated or made up.

A backfill of twelve months of five recorded symbols and two hourly ticks after it, each against an
exchange that fails as its seed says. A run that ends in an error of the tree is started again, as
the next tick of a schedule would. A ban opens the client's circuit for ten minutes: that is checked
to hold, then the file that keeps it is removed, which stands for the ten minutes.
"""

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from common import HOUR_MS, NOW, SYMBOLS, Home, Result, print_table, recording, tally

from flash_pipeline.bybit import BybitClient
from flash_pipeline.errors import CircuitOpen, ExchangeError, FlashPipelineError
from flash_pipeline.exchange import (
    Clock,
    Faults,
    FaultSpec,
    Market,
    ReplayedMarket,
    embedded_exchange,
)
from flash_pipeline.exchange.faults import KINDS
from flash_pipeline.transport import RequestBudget, Timeouts
from flash_pipeline.transport.wire import PoliteSession

HOSTS = ("http://bybit.invalid", "http://bytick.invalid")
READ_TIMEOUT_S = 0.4
RATE, BURST = 0.6, 2
TICKS = 2
"""Hourly ticks after each backfill."""
HELD_BACK = frozenset(
    {"preliminary_rows", "server_time_back", "envelope_clock_back", "vanished_symbol"}
)
"""Kinds that hold back what only a later answer can tell: not injected into the last tick."""

_MOST_RUNS = 60  # of one step, before the campaign is given up


class HostsOnLoopback(PoliteSession):
    """Sends what is meant for any of `HOSTS` to the embedded exchange.

    Named hosts get what real ones get: a budget, a circuit, and one another as a fallback.
    """

    def __init__(self, url: str) -> None:
        timeouts = Timeouts(READ_TIMEOUT_S, READ_TIMEOUT_S, 3 * READ_TIMEOUT_S)
        super().__init__(timeouts, trust_env=False, user_agent="flash-pipeline")
        self._url = url

    def get(self, url: str | bytes, **options: object) -> requests.Response:
        """Ask the exchange instead."""
        for host in HOSTS:
            url = str(url).replace(host, self._url)
        return super().get(url, **options)  # type: ignore[arg-type]


class _Elapsed:
    """Seconds that go by faster where someone waits."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._skipped

    def sleep(self, seconds: float) -> None:
        self._skipped += seconds


_ELAPSED = _Elapsed()


def measure(root: Path, wanted: int = 2000) -> Result:
    """Run backfills of other seeds until enough faults were injected, and print the tables."""
    market = ReplayedMarket(recording())
    reference = Home(root / "reference")
    for step in range(TICKS + 1):
        with _exchange(market, step, None) as url, BybitClient(url) as client:
            reference.refresh(client)
    campaign = _Campaign(market, reference)
    seed = 0
    while campaign.counts.total() < wanted or len(campaign.counts) < len(KINDS):
        campaign.backfill(Home(root / f"seed{seed}"), seed)
        shutil.rmtree(root / f"seed{seed}")
        seed += 1
    return campaign.report(seed)


class _Campaign:
    """Runs backfills and adds up what happened."""

    def __init__(self, market: Market, reference: Home) -> None:
        self._market = market
        self._reference = reference.digests()
        self.counts: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._wrong: Counter[str] = Counter()
        self._requests = 0

    def backfill(self, home: Home, seed: int) -> None:
        """Backfill and tick under the faults of one seed, and hold the files against the truth."""
        for step in range(TICKS + 1):
            kinds = tuple(name for name in KINDS if step < TICKS or name not in HELD_BACK)
            faults = Faults(FaultSpec(seed * 10 + step, RATE, kinds, BURST, latency_ms=20))
            with _exchange(self._market, step, faults) as url:
                self._until_done(home, url)
            self.counts += faults.counts
            self._requests += faults.requests.total()
        self._compare(home)

    def _until_done(self, home: Home, url: str) -> None:
        """Refresh again and again until one refresh ends without an error."""
        for _ in range(_MOST_RUNS):
            with client_of(url, home.folder / "circuit.json") as client:
                try:
                    home.refresh(client)
                except FlashPipelineError as error:
                    self._errors[type(error).__name__] += 1
                    end_ban(home.folder / "circuit.json", url)
                else:
                    self._errors["none"] += 1
                    return
        raise RuntimeError(f"{_MOST_RUNS} runs in a row failed")

    def _compare(self, home: Home) -> None:
        found = tally(home, recording(), _now(TICKS) // HOUR_MS * HOUR_MS)
        for name in ("stored", "lost", "duplicated", "invented", "forming"):
            self._wrong[name] += getattr(found, name)
        digests = home.digests()
        self._wrong["files"] += len(self._reference)
        self._wrong["files that differ"] += len(set(digests.items()) ^ set(self._reference.items()))
        self._wrong["gaps left open"] += sum(map(len, home.ledger.open_gaps().values()))
        self._wrong["revisions recorded"] += home.ledger.read("kline_revisions").num_rows

    def report(self, seeds: int) -> Result:
        """Print and return all of it."""
        failed = {name: n for name, n in sorted(self._errors.items()) if name != "none"}
        print_table("Faults injected, by kind", sorted(self.counts.items()))
        print_table("Runs that ended in an error and were started again", failed.items())
        summary: Result = {
            "backfills": seeds,
            "requests": self._requests,
            "faults injected": self.counts.total(),
            "kinds of fault": len(self.counts),
            "runs": self._errors.total(),
            **self._wrong,
        }
        print_table(f"Campaign: {len(SYMBOLS)} symbols x 12 months, {TICKS} ticks", summary.items())
        return {**summary, "by_kind": dict(sorted(self.counts.items())), "errors": failed}


@contextmanager
def _exchange(market: Market, step: int, faults: Faults | None) -> Iterator[str]:
    clock = Clock(_now(step), speed=0)
    with embedded_exchange(market=market, clock=clock, faults=faults) as url:
        yield url


def _now(step: int) -> int:
    return NOW - (TICKS - step) * HOUR_MS


def client_of(url: str, circuit_file: Path) -> BybitClient:
    """Return a client of two named hosts, whose pauses take no time."""
    return BybitClient(
        HOSTS,
        circuit_file=circuit_file,
        session=HostsOnLoopback(url),
        sleep=_ELAPSED.sleep,
        read_timeout_s=READ_TIMEOUT_S,
        budget=RequestBudget(monotonic=_ELAPSED.monotonic, sleep=_ELAPSED.sleep),
    )


def end_ban(circuit_file: Path, url: str) -> None:
    """Check that a ban keeps another process quiet, and let its ten minutes pass at once."""
    if not circuit_file.is_file():
        return
    with client_of(url, circuit_file) as client:
        try:
            client.server_time()
        except CircuitOpen:
            pass
        except ExchangeError as error:
            raise RuntimeError("a banned client sent a request") from error
    circuit_file.unlink()
