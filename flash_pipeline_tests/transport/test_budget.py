import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flash_pipeline.transport import RequestBudget

WINDOW_S = 5.0


class Gate:
    """A budget on a clock that passes only while somebody sleeps, and when it let requests through.

    The budget reads the clock last when it grants, so a thread's last reading is its grant.
    """

    def __init__(self, most: int | None) -> None:
        self.budget = RequestBudget(most, WINDOW_S, monotonic=self.read, sleep=self.sleep)
        self.granted: list[float] = []
        self.now = 1000.0
        self._lock = threading.Lock()
        self._thread = threading.local()

    def read(self) -> float:
        with self._lock:
            self._thread.last = self.now
            return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds

    def pass_through(self, pause: float = 0.0) -> None:
        self.sleep(pause)
        self.budget.acquire()
        self.granted.append(self._thread.last)


def _most_in_a_window(times: list[float]) -> int:
    return max((sum(first <= t < first + WINDOW_S for t in times) for first in times), default=0)


pauses = st.sampled_from([0.0, 0.0, 0.0, 0.001, 0.3, 4.999, 5.0, 7.0])


@settings(deadline=None)
@given(most=st.integers(1, 12), pauses=st.lists(pauses, max_size=60))
def test_no_window_of_five_seconds_holds_more_than_the_budget(most, pauses):
    gate = Gate(most)
    for pause in pauses:
        gate.pass_through(pause)
    assert len(gate.granted) == len(pauses)
    assert _most_in_a_window(gate.granted) <= most


@settings(deadline=None, max_examples=10)
@given(most=st.integers(1, 60), pauses=st.lists(pauses, min_size=200, max_size=200))
def test_no_window_holds_more_than_the_budget_over_many_threads(most, pauses):
    gate = Gate(most)
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(gate.pass_through, pauses))
    assert len(gate.granted) == len(pauses)
    assert _most_in_a_window(gate.granted) <= most


def test_the_budget_is_spent_at_once_and_then_waited_for():
    gate = Gate(3)
    for _ in range(7):
        gate.pass_through()
    assert gate.granted == pytest.approx([1000.0] * 3 + [1005.0] * 3 + [1010.0])


def test_by_default_it_stays_below_the_documented_limit():
    budget = RequestBudget(monotonic=lambda: 0.0, sleep=_raise)
    for _ in range(500):
        budget.acquire()
    with pytest.raises(RuntimeError, match=r"asked to sleep 5\.0"):
        budget.acquire()


def test_without_a_number_everything_is_granted():
    gate = Gate(None)
    for _ in range(2000):
        gate.pass_through()
    assert gate.granted == [1000.0] * 2000


@pytest.mark.parametrize("most", [None, 5])
def test_a_pause_holds_for_every_thread(most):
    gate = Gate(most)
    gate.budget.pause_for(2.5)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(gate.pass_through, [0.0] * 4))
    assert min(gate.granted) >= 1002.5


def test_a_shorter_pause_does_not_end_a_longer_one():
    gate = Gate(None)
    gate.budget.pause_for(9.0)
    gate.budget.pause_for(1.0)
    gate.budget.pause_for(0.0)
    gate.budget.pause_for(-7.0)
    gate.pass_through()
    assert gate.granted == [1009.0]


def test_a_pause_is_slept_through_once_even_if_the_clock_stands_still():
    slept = []
    budget = RequestBudget(None, monotonic=lambda: 0.0, sleep=slept.append)
    budget.pause_for(3.0)
    budget.acquire()
    assert slept == [3.0]


def test_a_pause_that_grows_while_it_is_slept_through_is_kept_to_its_end():
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            budget.pause_for(9.0)

    budget = RequestBudget(None, monotonic=lambda: 0.0, sleep=sleep)
    budget.pause_for(3.0)
    budget.acquire()
    assert slept == [3.0, 9.0]


def _raise(seconds: float) -> None:
    raise RuntimeError(f"asked to sleep {seconds}")
