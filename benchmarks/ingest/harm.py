"""Backfills that are killed, run out of disk or lose the right to write, and are run again."""

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from common import NOW, Home, Result, print_table, recording

from flash_pipeline.bybit import BybitClient
from flash_pipeline.exchange import Clock, ReplayedMarket, embedded_exchange

SEED = 20241122
_BACKFILL = Path(__file__).with_name("backfill.py")
_TMPFS_MIB = 1  # less than a year of five symbols takes
_FILE_BYTES = 20_000  # less than a month of one symbol takes


def measure(root: Path, kills: int = 100) -> Result:
    """Do all three kinds of harm and print their table."""
    with embedded_exchange(market=ReplayedMarket(recording()), clock=Clock(NOW, speed=0)) as url:
        reference = Home(root / "reference")
        _refresh(reference, url)
        result = {
            **_killed(root, url, reference, kills),
            **_full_disk(root, url, reference),
            **_read_only(root, url, reference),
        }
    print_table("Harm done to a backfill of 12 months of 5 symbols", result.items())
    return result


def _killed(root: Path, url: str, reference: Home, kills: int) -> Result:
    """Kill backfills at random moments, run each again and compare.

    The moments of the first half are uniform over the time that a backfill takes; those of the
    second half are uniform over its month files, since writing takes a small part of the time.
    """
    draws = random.Random(SEED)
    seconds = statistics.median(_time_of_one(root / f"timed{n}", url) for n in range(3))
    equal, midway, leftovers, files = 0, 0, 0, []
    for n in range(kills):
        home = Home(root / f"killed{n}")
        with _start(url, home) as process:
            if 2 * n < kills:
                time.sleep(draws.uniform(0.0, seconds))
            else:
                _wait_for_files(home, draws.randrange(len(reference.digests())), process)
            process.kill()
            process.communicate()
        files.append(len(home.digests()))
        midway += 0 < files[-1] < len(reference.digests())
        leftovers += home.leftovers()
        _refresh(home, url)
        equal += home.digests() == reference.digests()
    return {
        "seconds of an undisturbed backfill": round(seconds, 2),
        "processes killed with SIGKILL": kills,
        "killed with some of the month files written": midway,
        "killed with none of them written": sum(count == 0 for count in files),
        "temporary files left behind": leftovers,
        "equal to the undisturbed files after a rerun": equal,
    }


def _wait_for_files(home: Home, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until so many month files are there, or the process has ended by itself."""
    while process.poll() is None:
        if len(list(home.store.folder.glob("symbol=*/month=*.parquet"))) >= count:
            return


def _time_of_one(folder: Path, url: str) -> float:
    with _start(url, Home(folder)) as process:
        output, _ = process.communicate()
    return float(json.loads(output)["seconds"])


def _full_disk(root: Path, url: str, reference: Home) -> Result:
    """Backfill onto a disk that is too small, then make room and run again."""
    folder = root / "full"
    with _small_disk(folder) as make_room:
        home = Home(folder / "home")
        means = "tmpfs of 1 MiB" if make_room is not None else "RLIMIT_FSIZE of 20 kB"
        limits = [] if make_room is not None else ["--file-bytes", str(_FILE_BYTES)]
        error = _failure(url, home, *limits)
        whole = set(home.digests().items()) <= set(reference.digests().items())
        written = len(home.digests())
        if make_room is not None:
            make_room()
        _refresh(home, url)
        equal = home.digests() == reference.digests()
    return {
        "full disk": means,
        "full disk: the run ended with": error,
        "full disk: month files written by then": written,
        "full disk: all of them whole": whole,
        "full disk: equal after a rerun with room": equal,
    }


def _read_only(root: Path, url: str, reference: Home) -> Result:
    """Backfill into a home that turns read-only after a first part, then run again."""
    folder = root / "fixed"
    home = Home(folder / "home")
    _refresh(home, url)
    before = home.digests()
    for path in sorted(home.store.folder.glob("symbol=*/month=2024-0*.parquet")):
        path.unlink()
        before.pop(str(path.relative_to(home.folder)))
    with _no_right_to_write(folder) as (means, limits):
        error = _failure(url, home, *limits)
        unchanged = home.digests() == before
    _refresh(home, url)
    return {
        "read-only home": means,
        "read-only home: the run ended with": error,
        "read-only home: files as they were": unchanged,
        "read-only home: equal after a rerun": home.digests() == reference.digests(),
    }


def _refresh(home: Home, url: str) -> None:
    with BybitClient(url) as client:
        home.refresh(client)


@contextmanager
def _start(url: str, home: Home, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start a backfill and wait until it is about to ask for the first time."""
    command = [sys.executable, str(_BACKFILL), url, str(home.folder), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "the backfill did not start"
        yield process


def _failure(url: str, home: Home, *options: str) -> str:
    """Return the name of the error that a backfill ends with."""
    with _start(url, home, *options) as process:
        output, _ = process.communicate()
    return str(json.loads(output).get("error", "no error"))


@contextmanager
def _small_disk(folder: Path) -> Iterator[Callable[[], None] | None]:
    """Mount a small disk and yield what makes room on it; None where mounting is not allowed."""
    folder.mkdir()
    size = f"size={_TMPFS_MIB}m"
    if not _allowed("mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)):
        yield None
        return
    try:
        yield lambda: _require("mount", "-o", "remount,size=64m", str(folder))
    finally:
        _require("umount", str(folder))


@contextmanager
def _no_right_to_write(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Make a folder read-only, by a mount or by its modes, and yield how."""
    if _allowed("mount", "--bind", "-o", "ro", str(folder), str(folder)):
        try:
            yield "a read-only mount", []
        finally:
            _require("umount", str(folder))
        return
    places = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for place in places:
        place.chmod(0o555)
    try:
        yield "folders without the right to write", ["--nobody"]
    finally:
        for place in places:
            place.chmod(0o755)


def _allowed(*command: str) -> bool:
    done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode == 0


def _require(*command: str) -> None:
    subprocess.run(command, check=True)
