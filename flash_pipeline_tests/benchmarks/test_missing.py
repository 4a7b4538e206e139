"""A later run of the suite measures what an earlier one had no time for, and keeps the rest."""

import dataclasses
import json
import time

import pytest
import torch

from benchmarks.gpu import chapter, feasibility, goals, growth, kernels, recompute, throughput
from benchmarks.gpu.bench import LATE, Bench
from benchmarks.gpu.suite import run_parts


class Counting(Bench):
    """A bench that counts what it measures; after so many it is late."""

    def __init__(self, most=10**9):
        super().__init__(torch.device("cpu"), "tiny")
        self.most, self.count = most, 0

    def attempt(self, make, **options):
        if self.count >= self.most:
            self.deadline = time.monotonic() - 1
        self.count += not self.late
        return super().attempt(make, **options)


THEMES = [chapter, feasibility, goals, growth, kernels, recompute, throughput]


@pytest.mark.parametrize("module", THEMES)
def test_what_a_stored_result_lacks_is_measured_and_added_to_it(module, tmp_path):
    part = module.PART
    whole, rest = Counting(), Counting()
    run_parts([part], whole, tmp_path / "whole")
    run_parts([part], Counting(most=whole.count // 2), tmp_path / "day")
    run_parts([part], rest, tmp_path / "day", missing=True)
    again = Counting()
    run_parts([part], again, tmp_path / "day", missing=True)
    (path,) = (tmp_path / "day").glob("*.json")
    rows = json.loads(path.read_text())["rows"]
    assert not [row for row in rows if row["note"] == LATE]
    assert len(rows) == len(whole.results[0]["rows"])
    assert 0 < rest.count < whole.count
    assert again.count == 0
    assert again.results[0]["rows"] == rows


def test_a_stored_result_of_other_versions_is_measured_afresh(tmp_path, capsys):
    run_parts([recompute.PART], Counting(), tmp_path)
    (path,) = tmp_path.glob("*.json")
    result = json.loads(path.read_text())
    result["versions"]["torch"] = "0.1"
    path.write_text(json.dumps(result))
    bench = Counting()
    run_parts([recompute.PART], bench, tmp_path, missing=True)
    assert bench.count == len(result["rows"])
    assert "is of other versions" in capsys.readouterr().out


def test_a_part_that_breaks_off_loses_nothing_that_was_stored(tmp_path):
    run_parts([recompute.PART], Counting(), tmp_path)
    (path,) = tmp_path.glob("*.json")
    rows = json.loads(path.read_text())["rows"]

    def broken(_bench):
        yield rows[1]
        raise ZeroDivisionError

    part = dataclasses.replace(recompute.PART, rows=broken)
    run_parts([part], Counting(), tmp_path, missing=True)
    kept = json.loads(path.read_text())["rows"]
    assert sorted(map(str, kept)) == sorted(map(str, rows))
