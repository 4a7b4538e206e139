import signal
import time

import pytest

from flash_pipeline.order_book import BookStore
from flash_pipeline_tests.cli.conftest import CommandLine

ASKED = ("collect-book", "--symbols", "BTCUSDT,ETHUSDT", "--cadence", "0.1", "--levels", "5")


@pytest.fixture
def live(tmp_path) -> CommandLine:
    return CommandLine(tmp_path / "home", "")  # its own exchange, whose clock goes on


def until_journals(command: CommandLine, lines: int) -> int:
    """Wait until each symbol's journal has so many lines, and return the fewest."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        texts = [p.read_bytes() for p in command.settings.order_book.rglob("*.journal")]
        if len(texts) == 2 and min(text.count(b"\n") for text in texts) >= lines:
            return min(text.count(b"\n") for text in texts)
        time.sleep(0.05)
    raise AssertionError("no snapshots within a minute")


def stored(command: CommandLine, symbol: str) -> int:
    store = BookStore(command.settings.order_book)
    return sum(len(store.read_day(symbol, day)) for day in store.days(symbol))


def test_what_was_taken_survives_a_kill_and_the_next_one_goes_on(live):
    with live.started(*ASKED) as process:
        taken = until_journals(live, 5)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    done = live(*ASKED, "--duration", "0.5")
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC" in done.stdout
    for symbol in ("BTCUSDT", "ETHUSDT"):
        assert stored(live, symbol) >= taken + 2
    assert list(live.settings.order_book.rglob("*.journal")) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(live, number):
    with live.started(*ASKED) as process:
        taken = until_journals(live, 3)
        process.send_signal(number)
        assert process.wait(10) == 0
    assert stored(live, "BTCUSDT") >= taken


def test_what_cannot_be_collected_is_one_line(live):
    done = live("collect-book", "--symbols", "BTCUSDT", "--cadence", "0.001")
    assert done.returncode == 1
    assert done.stderr.startswith("error: cadence 0.001 s: expected at least 0.05 s")
