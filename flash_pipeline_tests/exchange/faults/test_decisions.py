import itertools

from flash_pipeline.exchange.faults.decisions import Decisions
from flash_pipeline.exchange.faults.spec import FaultSpec

QUERY = [("symbol", "BTCUSDT"), ("start", "1")]


def _fails(spec, attempts=200, query=QUERY, path="/a"):
    decisions = Decisions(spec)
    return [decisions.attempt(path, query).fails for _ in range(attempts)]


def test_the_same_seed_decides_the_same():
    spec = FaultSpec(seed=7, rate=0.5)
    assert _fails(spec) == _fails(spec)
    assert _fails(spec) != _fails(FaultSpec(seed=8, rate=0.5))


def test_other_queries_asked_between_change_nothing():
    spec = FaultSpec(seed=7, rate=0.5)
    decisions = Decisions(spec)
    mixed = []
    for n in range(200):
        decisions.attempt("/a", [("symbol", f"S{n}")])
        mixed.append(decisions.attempt("/a", QUERY).fails)
    assert mixed == _fails(spec)


def test_the_order_of_the_parameters_does_not_matter():
    spec = FaultSpec(seed=7, rate=0.5)
    assert _fails(spec) == _fails(spec, query=QUERY[::-1])


def test_paths_are_told_apart():
    spec = FaultSpec(seed=7, rate=0.5)
    assert _fails(spec) != _fails(spec, path="/b")


def test_no_more_than_a_burst_fails_in_a_row():
    for burst in (1, 2, 5):
        fails = _fails(FaultSpec(rate=1, burst=burst), attempts=60)
        runs = [len(list(run)) for failed, run in itertools.groupby(fails) if failed]
        assert set(runs) == {burst}


def test_the_rate_is_met_where_bursts_do_not_cut_it():
    fails = _fails(FaultSpec(seed=1, rate=0.2, burst=50), attempts=5000)
    assert abs(sum(fails) / len(fails) - 0.2) < 0.03
    assert not any(_fails(FaultSpec(rate=0)))


def test_attempts_are_numbered_and_draw_differently():
    decisions = Decisions(FaultSpec(rate=1))
    first, second = (decisions.attempt("/a", QUERY) for _ in range(2))
    assert (first.number, second.number) == (1, 2)
    assert first.random.random() != second.random.random()
