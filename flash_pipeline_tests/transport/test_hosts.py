from concurrent.futures import ThreadPoolExecutor

import pytest

from flash_pipeline.transport.hosts import Host, HostList

A, B, C = (f"https://{name}.test" for name in "abc")


def test_the_first_host_is_preferred():
    assert HostList([A, B]).current() == Host(A)


def test_a_slash_at_the_end_is_dropped():
    assert HostList([f"{A}/"]).current().url == A


def test_no_hosts_are_refused():
    with pytest.raises(ValueError, match="no host given"):
        HostList([])


def test_the_next_host_comes_after_failures_in_a_row():
    hosts = HostList([A, B], failures=3)
    asked = []
    for _ in range(7):
        asked.append(hosts.current().url)
        hosts.failed(hosts.current())
    assert asked == [A, A, A, B, B, B, A]


def test_an_answer_forgives_the_failures_before_it():
    hosts = HostList([A, B], failures=2)
    for _ in range(5):
        hosts.failed(hosts.current())
        hosts.answered(hosts.current())
    assert hosts.current().url == A


def test_the_host_that_answers_is_kept():
    hosts = HostList([A, B], failures=1)
    hosts.failed(hosts.current())
    for _ in range(5):
        hosts.answered(hosts.current())
    assert hosts.current().url == B


def test_a_late_failure_of_a_host_that_was_left_changes_nothing():
    hosts = HostList([A, B], failures=1)
    first = hosts.current()
    hosts.failed(first)
    hosts.failed(first)
    hosts.answered(first)
    assert hosts.current().url == B


def test_many_threads_that_fail_at_once_move_on_by_one_host():
    hosts = HostList([A, B, C], failures=3)
    first = hosts.current()
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(hosts.failed, [first] * 100))
    assert hosts.current().url == B


def test_a_single_host_stays():
    hosts = HostList([A], failures=1)
    hosts.failed(hosts.current())
    assert hosts.current().url == A


def test_a_blocked_host_is_not_asked_again():
    hosts = HostList([A, B], failures=1)
    assert hosts.block(hosts.current())
    assert hosts.current().url == B
    hosts.failed(hosts.current())
    assert hosts.current().url == B


def test_the_last_host_stays_although_it_is_blocked():
    hosts = HostList([A, B])
    first = hosts.current()
    assert hosts.block(first)
    assert hosts.block(first)  # another thread's answer from the same host
    assert not hosts.block(hosts.current())
    assert hosts.current().url == B


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:80", "http://127.3.2.1", "http://[::1]:8080", "http://localhost:1"]
)
def test_this_machine_is_loopback(url):
    assert Host(url).is_loopback


@pytest.mark.parametrize("url", ["https://api.bybit.com", "http://10.0.0.1", "http://localhost.x"])
def test_any_other_machine_is_not(url):
    assert not Host(url).is_loopback


def test_a_mixed_list_is_not_all_loopback():
    assert HostList(["http://127.0.0.1"]).all_loopback
    assert not HostList(["http://127.0.0.1", A]).all_loopback
