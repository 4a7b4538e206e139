"""Switches of torch that are given back."""

import os

import pytest
import torch

from flash_pipeline.training.runtime import determinism, fitting_threads, seeded, usable_cores


def test_a_seeded_block_gives_the_random_state_back():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with seeded(7):
        first = torch.rand(3)
    assert torch.get_rng_state().equal(before)
    with seeded(7):
        assert torch.rand(3).equal(first)


@pytest.mark.parametrize("wanted", [True, False])
def test_determinism_holds_inside_the_block_where_it_is_wanted(monkeypatch, wanted):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with determinism(wanted):
        assert torch.are_deterministic_algorithms_enabled() == wanted
    assert not torch.are_deterministic_algorithms_enabled()
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("width", "cores", "threads"), [(256, 2, 2), (256, 64, 4), (128, 1, 1), (32, 64, 1)]
)
def test_threads_are_no_more_than_cores_and_one_for_a_narrow_model(
    monkeypatch, four_threads, width, cores, threads
):
    monkeypatch.setattr("flash_pipeline.training.runtime.usable_cores", lambda: cores)
    with fitting_threads(width):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("200000 100000", 2),
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("max 100000", 16),
        ("9900000 100000", 16),
        ("nonsense", 16),
        (None, 16),
    ],
)
def test_a_containers_quota_bounds_the_cores(monkeypatch, tmp_path, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota + "\n")
    assert usable_cores(tmp_path) == cores
