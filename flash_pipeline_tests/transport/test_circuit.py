import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_pipeline.errors import CircuitOpen
from flash_pipeline.transport import Circuit

START = 1_746_273_600.0  # 2025-05-03T12:00Z
TEN_MINUTES_MS = 600_000


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / ".bybit-circuit.json"


def test_a_closed_circuit_lets_calls_pass(wall, path):
    Circuit(path, clock=wall).check()
    assert not path.exists()


def test_an_open_circuit_refuses_calls_and_says_until_when(wall):
    circuit = Circuit(clock=wall)
    until = circuit.open("access too frequent")
    assert until == int(START * 1000) + TEN_MINUTES_MS
    with pytest.raises(CircuitOpen, match=r"until 2025-05-03T12:10Z, in 600 s") as caught:
        circuit.check(symbol="BTCUSDT")
    assert (caught.value.until, caught.value.symbol) == (until, "BTCUSDT")


def test_it_closes_after_ten_minutes(wall):
    circuit = Circuit(clock=wall)
    circuit.open("banned")
    wall.now += 599.9
    with pytest.raises(CircuitOpen):
        circuit.check()
    wall.now += 0.1
    circuit.check()


def test_a_second_ban_starts_ten_minutes_anew(wall):
    circuit = Circuit(clock=wall)
    circuit.open("banned")
    wall.now += 300
    assert circuit.open("banned again") == int(wall.now * 1000) + TEN_MINUTES_MS


def test_the_next_process_keeps_quiet_as_well(wall, path):
    until = Circuit(path, clock=wall).open("access too frequent")
    with pytest.raises(CircuitOpen) as caught:
        Circuit(path, clock=wall).check()
    assert caught.value.until == until
    assert json.loads(path.read_text())["why"] == "access too frequent"


def test_a_process_that_runs_already_learns_of_it(wall, path):
    here, there = Circuit(path, clock=wall), Circuit(path, clock=wall)
    here.check()
    there.open("banned")
    with pytest.raises(CircuitOpen):
        here.check()


def test_a_ban_that_is_over_is_no_ban_for_the_next_process(wall, path):
    Circuit(path, clock=wall).open("banned")
    wall.now += 601
    Circuit(path, clock=wall).check()


def test_nothing_but_the_file_is_left_behind(wall, path):
    Circuit(path, clock=wall).open("banned")
    assert list(path.parent.iterdir()) == [path]


@given(
    st.binary(max_size=40)
    | st.sampled_from(
        [
            b"[" * 100_000,
            b"9" * 5000,
            b'{"until": true}',
            b'{"until": "1746274200000"}',
            b'{"until": 1e400}',
            b'{"until": null}',
            b'{"until": 99999999999999999999}',
        ]
    )
)
def test_a_garbled_file_counts_as_absent(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("circuit") / "circuit.json"
    path.write_bytes(content)
    circuit = Circuit(path, clock=Clock())
    circuit.check()
    circuit.open("banned")
    with pytest.raises(CircuitOpen):
        Circuit(path, clock=Clock()).check()


def test_a_ban_of_a_clock_that_was_set_back_since_does_not_last_for_ever(wall, path):
    Circuit(path, clock=wall).open("banned")
    wall.now -= 86_400
    Circuit(path, clock=wall).check()


def test_a_folder_in_its_place_is_no_ban(wall, path):
    path.mkdir(parents=True)
    circuit = Circuit(path, clock=wall)
    circuit.check()
    circuit.open("banned")
    with pytest.raises(CircuitOpen):
        circuit.check()


def test_a_file_in_the_place_of_the_home_does_not_hide_the_ban(wall, path):
    path.parent.write_text("in the way")
    circuit = Circuit(path, clock=wall)
    circuit.open("banned")
    with pytest.raises(CircuitOpen):
        circuit.check()
