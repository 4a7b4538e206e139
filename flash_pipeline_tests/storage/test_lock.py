"""One run at a time on a home, and a lock that dies with its holder."""

import subprocess
import sys

import pytest

from flash_pipeline.errors import HomeBusy
from flash_pipeline.storage.lock import claim_home, holder

_HOLD = """
import pathlib, sys, time
from flash_pipeline.storage.lock import claim_home
with claim_home(pathlib.Path(sys.argv[1])) as claim:
    claim.name_run("the-other")
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def hold(tmp_path):
    """Hold the home in another process for a number of seconds."""
    processes = []

    def start(seconds):
        command = [sys.executable, "-c", _HOLD, str(tmp_path), str(seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout.readline().strip() == b"held"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_home_that_is_held_is_refused_by_the_name_of_the_run(tmp_path, hold):
    hold(60)
    with pytest.raises(HomeBusy, match="run the-other is active"), claim_home(tmp_path):
        pass


def test_a_waiting_run_gets_the_home_when_it_is_free(tmp_path, hold):
    hold(0.5)
    with claim_home(tmp_path, wait_s=20) as claim:
        assert claim.last_run() == "the-other"


def test_a_killed_holder_leaves_the_home_free_and_its_name(tmp_path, hold):
    process = hold(60)
    process.kill()
    process.wait()
    assert holder(tmp_path) is None
    with claim_home(tmp_path) as claim:
        assert claim.last_run() == "the-other"


def test_the_holder_is_named_while_it_lives(tmp_path, hold):
    assert holder(tmp_path) is None
    hold(60)
    assert holder(tmp_path) == "the-other"


def test_a_process_enters_its_own_lock_again(tmp_path):
    with claim_home(tmp_path) as outer, claim_home(tmp_path) as inner:
        inner.name_run("mine")
        assert outer.last_run() == "mine"
    with claim_home(tmp_path):
        pass
