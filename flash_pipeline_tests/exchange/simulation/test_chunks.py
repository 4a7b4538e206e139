import numpy as np
import pytest

from flash_pipeline.exchange.simulation.chunks import (
    CHUNK_MS,
    Chain,
    autoregress,
    chunk_at,
    chunk_start,
    random_stream,
)
from flash_pipeline.market import Interval


@pytest.mark.parametrize("coefficient", [0.5, 0.97, 0.998, 1.0])
def test_autoregression_equals_its_recursion(coefficient):
    noise = np.random.default_rng(1).standard_normal(720)
    expected, value = [], 2.0
    for step in noise:
        value = coefficient * value + step
        expected.append(value)
    np.testing.assert_allclose(autoregress(noise, coefficient, 2.0), expected, atol=1e-10)


@pytest.mark.parametrize("interval", list(Interval))
def test_no_candle_spans_two_chunks(interval):
    assert CHUNK_MS % interval.milliseconds == 0
    assert interval.floor(chunk_start(9)) == chunk_start(9)


def test_a_chunk_begins_with_its_start():
    assert chunk_at(chunk_start(5)) == 5
    assert chunk_at(chunk_start(5) - 1) == 4


def test_a_chain_computes_each_chunk_once_from_the_state_before():
    asked = []

    def step(chunk: int, state: int) -> tuple[int, int]:
        asked.append(chunk)
        return state + chunk, state + chunk

    chain = Chain(3, 10, step)
    assert (chain[5], chain[3], chain[5]) == (22, 13, 22)
    assert asked == [3, 4, 5]


def test_streams_of_other_names_differ_and_of_one_name_agree():
    names = [
        (7, "A", "x", 0),
        (8, "A", "x", 0),
        (7, "B", "x", 0),
        (7, "A", "y", 0),
        (7, "A", "x", 1),
    ]
    draws = [random_stream(*name).random() for name in names]
    assert len(set(draws)) == len(names)
    assert random_stream(*names[0]).random() == draws[0]
