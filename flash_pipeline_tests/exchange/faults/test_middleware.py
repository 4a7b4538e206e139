from concurrent.futures import ThreadPoolExecutor

import requests

from flash_pipeline.exchange.faults import Injection

HARMLESS = "latency+code_10006+too_many_429+empty_list+duplicated_rows"


def _campaign(faulty, threads):
    windows = [{"start": n * 3_600_000, "end": 1_719_000_000_000} for n in range(12)]
    with (
        faulty(HARMLESS, rate=0.5, burst=2, seed=7, latency_ms=1) as (faults, ask),
        ThreadPoolExecutor(threads) as pool,
    ):
        for _ in range(3):
            list(pool.map(lambda window: ask(**window), windows))
        return faults


def test_what_is_injected_does_not_depend_on_the_order_of_threads(faulty):
    one, many = _campaign(faulty, 1), _campaign(faulty, 8)
    assert one.counts == many.counts
    assert len(one.counts) > 2
    assert set(one.injected) == set(many.injected)


def test_another_seed_injects_others(faulty):
    with faulty(HARMLESS, rate=0.5, seed=1) as (one, ask):
        for _ in range(20):
            ask()
    with faulty(HARMLESS, rate=0.5, seed=2) as (other, ask):
        for _ in range(20):
            ask()
    assert list(one.injected) != list(other.injected)


def test_counts_are_told_by_the_server_and_the_object(faulty):
    with faulty("code_10006", burst=1) as (faults, ask):
        for _ in range(4):
            ask("time")
        report = requests.get(ask.url + "/faults", timeout=5).json()
    assert report["counts"] == dict(faults.counts) == {"code_10006": 2}
    assert (report["total"], report["requests"]) == (2, {"/v5/market/time": 4})
    assert report["spec"]["kinds"] == ["code_10006"]


def test_the_record_names_the_attempts(faulty):
    with faulty("code_10006", burst=1) as (faults, ask):
        for _ in range(3):
            ask("time", b=2, a=1)
    path = "/v5/market/time"
    assert list(faults.injected) == [
        Injection(path, "a=1&b=2", 1, "code_10006"),
        Injection(path, "a=1&b=2", 3, "code_10006"),
    ]


def test_requests_in_flight_are_counted(faulty):
    with faulty("latency", latency_ms=300, burst=9) as (faults, ask), ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda n: ask("time", n=n), range(5)))
    assert faults.most_in_flight == 5
    assert faults.in_flight == 0


def test_without_a_rate_nothing_is_injected(faulty):
    with faulty(HARMLESS, rate=0.0) as (faults, ask):
        assert ask().json()["retCode"] == 0
        assert faults.total == 0


def test_a_refusal_of_the_exchange_can_fail_as_well(faulty):
    with faulty("duplicated_rows+code_10006") as (faults, ask):
        assert ask(symbol="NOPEUSDT").json()["retCode"] == 10006
        assert faults.counts == {"code_10006": 1}
