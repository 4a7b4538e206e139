"""A killed training goes on as if it had never been interrupted."""

import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from flash_pipeline.training.checkpoint import Checkpoint
from flash_pipeline.training.trainer import train
from flash_pipeline.windows import write_windows
from flash_pipeline_tests.training.conftest import DENSE, LOOKBACK, tiny_recipe

CPU = torch.device("cpu")
HABITS = {
    "dropout": {"dropout": 0.3},
    "average": {"dropout": 0.3, "ema_decay": 0.9, "accumulation": 2},
    "dense": {"dropout": 0.1, "ema_decay": 0.9, **DENSE},
}
"""Changes of the tiny recipe that must all survive an interruption."""
START = "random weights"
EVERY_EPOCH = 0.0  # minutes
EVERY_STEP = 1e-9  # minutes


class Killed(Exception):
    """The training is interrupted."""


def _silent(_epoch):
    pass


@pytest.fixture
def run(frame, split, tmp_path):
    """Return a function that trains, with or without an interruption and a checkpoint."""

    def run(
        *, minutes=EVERY_EPOCH, start=START, keep=True, clock=None, on_epoch=_silent, **changes
    ):
        recipe = tiny_recipe(**{"epochs": 4, **changes})
        clock = clock or time.monotonic
        checkpoint = Checkpoint(tmp_path / "checkpoints", "abc", start, minutes, clock)
        checkpoint = checkpoint if keep else None
        return train(frame, split, recipe, device=CPU, on_epoch=on_epoch, checkpoint=checkpoint)

    return run


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoints" / "abc.safetensors"


def kill_at(number):
    def on_epoch(epoch):
        if epoch.number == number:
            raise Killed

    return on_epoch


def require_equal(one, other):
    assert one.history == other.history
    assert all(w.equal(other.bundle.weights[name]) for name, w in one.bundle.weights.items())
    assert one.bundle.prediction_scale == other.bundle.prediction_scale


@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("number", [2, 4])
def test_a_training_killed_after_an_epoch_goes_on_with_the_same_bits(run, habit, number):
    changes = HABITS[habit]
    whole = run(keep=False, **changes)
    with pytest.raises(Killed):
        run(on_epoch=kill_at(number), **changes)
    resumed = run(**changes)
    # Killed while the epoch was told, before its checkpoint: the epoch is done again.
    assert resumed.resumed == f"after epoch {number - 1}, step 0"
    require_equal(resumed, whole)


@pytest.mark.parametrize("habit", HABITS)
def test_a_training_killed_within_an_epoch_goes_on_with_the_same_bits(run, habit, monkeypatch):
    changes = HABITS[habit]
    whole = run(keep=False, **changes)
    write = Checkpoint.write

    def write_and_die(self, state):
        write(self, state)
        if (len(state.history), state.step) == (1, 3):
            raise Killed

    monkeypatch.setattr(Checkpoint, "write", write_and_die)
    with pytest.raises(Killed):
        run(minutes=EVERY_STEP, **changes)
    monkeypatch.setattr(Checkpoint, "write", write)
    resumed = run(**changes)
    assert resumed.resumed == "after epoch 1, step 3"
    require_equal(resumed, whole)


SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from flash_pipeline.training.checkpoint import Checkpoint
from flash_pipeline.training.trainer import train
from flash_pipeline.windows import chronological_split, read_windows
from flash_pipeline_tests.training.conftest import tiny_recipe

home = Path(sys.argv[1])
frame, recipe = read_windows(home / "windows"), tiny_recipe(epochs=4, dropout=0.3)

def die(epoch):
    if epoch.number == 3:
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint = Checkpoint(home / "checkpoints", "abc", "random weights", 0.0)
split = chronological_split(frame, recipe.split)
train(frame, split, recipe, device=torch.device("cpu"), on_epoch=die, checkpoint=checkpoint)
"""


def test_a_killed_process_leaves_what_another_one_goes_on_from(make_panel, run, tmp_path):
    options = {"lookback": LOOKBACK, "horizon": 1, "stride": LOOKBACK, "synthetic": True}
    write_windows(make_panel(), tmp_path / "windows", **options)
    project = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    # The bits depend on the number of threads, which tests may have set.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run(command, cwd=project, env=environment, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    resumed = run(dropout=0.3)
    assert resumed.resumed == "after epoch 2, step 0"
    require_equal(resumed, run(keep=False, dropout=0.3))


def test_a_finished_training_is_not_repeated_and_tells_its_epochs_again(run):
    whole, told = run(), []
    again = run(on_epoch=told.append)
    assert again.resumed == "after epoch 4, step 0"
    assert tuple(told) == whole.history
    require_equal(again, whole)


@pytest.fixture
def written(monkeypatch):
    """Return the epochs and steps of the checkpoints written, as they are written."""
    written = []
    write = Checkpoint.write

    def recorded(self, state):
        written.append((len(state.history), state.step))
        write(self, state)

    monkeypatch.setattr(Checkpoint, "write", recorded)
    return written


def test_a_checkpoint_is_due_by_the_clock_since_the_last(run, written):
    # Read at the start, by each step, at the end of each epoch, and by each checkpoint.
    half_minutes = itertools.count(0, 30)
    run(epochs=2, minutes=1.5, clock=lambda: next(half_minutes))
    assert written == [(0, 3), (0, 6), (1, 2), (1, 5)]


def test_a_short_training_writes_no_checkpoint(run, written, path):
    run(epochs=3, minutes=5.0)
    assert written == []
    assert not path.exists()


def test_without_a_time_between_them_a_checkpoint_follows_every_epoch_and_no_step(run, written):
    run(epochs=3, minutes=EVERY_EPOCH)
    assert written == [(1, 0), (2, 0), (3, 0)]


def test_an_epoch_that_ends_when_a_checkpoint_is_due_is_kept_whole(run, written):
    ticks = itertools.count()
    run(epochs=1, minutes=6.9 / 60, clock=lambda: next(ticks))
    assert written == [(1, 0)]


def refused(run, caplog, **changes):
    """Return why the checkpoint is not used; the training must be one from the beginning."""
    with caplog.at_level(logging.WARNING):
        again = run(epochs=2, **changes)
    assert again.resumed is None
    assert [epoch.number for epoch in again.history] == [1, 2]
    return caplog.messages[0]


def test_a_truncated_checkpoint_is_ignored_with_a_reason(run, path, caplog):
    run(epochs=2)
    path.write_bytes(path.read_bytes()[:-100])
    assert "abc.safetensors is not used: it cannot be read" in refused(run, caplog)


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"{}", os.urandom(1000)])
def test_a_file_of_another_kind_is_ignored_with_a_reason(run, path, caplog, content):
    path.parent.mkdir()
    path.write_bytes(content)
    assert "it cannot be read" in refused(run, caplog)


def test_a_flipped_bit_is_noticed(run, path, caplog):
    run(epochs=2)
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(content)
    assert "its checksum is not that of its content" in refused(run, caplog)


def rewrite(path, change):
    """Store the checkpoint again with another header, tensors as they are."""
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    save_file(load_file(path), path, metadata=change(header))


def test_counters_that_were_changed_are_noticed(run, path, caplog):
    run(epochs=2)

    def change(header):
        return {**header, "counters": json.dumps({"step": 5, "history": []})}

    rewrite(path, change)
    assert "its checksum is not that of its content" in refused(run, caplog)


@pytest.mark.parametrize("key", ["format", "fingerprint", "device"])
def test_a_checkpoint_of_another_training_is_ignored_with_a_reason(run, path, caplog, key):
    run(epochs=2)
    rewrite(path, lambda header: {**header, key: "other"})
    assert f"its {key} is 'other': expected" in refused(run, caplog)


def test_a_checkpoint_from_other_weights_is_ignored_with_a_reason(run, caplog):
    run(epochs=2, start="version 3")
    assert "its start is 'version 3': expected 'random weights'" in refused(run, caplog)


def test_a_checkpoint_of_other_shapes_is_ignored_with_a_reason(run, caplog):
    run(epochs=2, d_ff=32)
    assert "it does not fit the model: best/blocks.0.mlp" in refused(run, caplog)


def test_a_safetensors_file_without_our_header_is_ignored(run, path, caplog):
    path.parent.mkdir()
    save_file({"weights": torch.zeros(3)}, path)
    assert "its format is None: expected '2'" in refused(run, caplog)


def test_a_checkpoint_that_cannot_be_written_does_not_stop_the_training(run, path, caplog):
    path.parent.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert len(run(epochs=2).history) == 2
    assert "no checkpoint could be written" in caplog.messages[0]


def test_checkpoints_of_other_trainings_are_removed_and_this_one_stays(run, path):
    run(epochs=1)
    other, torn = path.with_name("def.safetensors"), path.with_name(".tmp-def.safetensors")
    for leftover in (other, torn):
        leftover.write_bytes(b"old")
    checkpoint = Checkpoint(path.parent, "abc", START, 5.0)
    checkpoint.remove_others()
    assert list(path.parent.iterdir()) == [path]
    checkpoint.remove()
    checkpoint.remove()
    assert list(path.parent.iterdir()) == []


def test_nothing_need_be_there_to_be_removed(tmp_path):
    Checkpoint(tmp_path / "nowhere", "abc", START, 5.0).remove_others()
