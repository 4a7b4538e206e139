import dataclasses
import json

import numpy as np
import pytest

from flash_pipeline.errors import BundleMismatch, ModelNotRegistered
from flash_pipeline.evaluation import (
    Decision,
    GateRules,
    decide_promotion,
    read_history,
    read_promotions,
    roll_back,
    settle,
)
from flash_pipeline.evaluation.rollback import finish_move
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline_tests.evaluation.test_promotion import DATES, HOUR_MS, contest, contestant


class FakeRegistry:
    """Keeps the alias and the tags, as the registry of MLflow would."""

    def __init__(self, champion=None):
        self.champion = champion
        self.tags = {}
        self.unreadable = set()
        self.stored = {}
        self.broken = False

    def point(self, alias, version):
        if self.broken:
            raise OSError("MLflow is away")
        assert alias == "champion"
        self.champion = version

    def tag(self, version, tags):
        self.tags.setdefault(version, {}).update(tags)

    def at(self, alias):
        assert alias == "champion"
        return None if self.champion is None else self.version(self.champion)

    def require(self, alias):
        if self.champion is None:
            raise ModelNotRegistered(f"no {alias}")
        return self.version(self.champion)

    def version(self, version):
        return _Model(version, version in self.unreadable, self.stored.get(version))


@dataclasses.dataclass
class _Model:
    version: str
    unreadable: bool
    stored: ModelBundle | None

    @property
    def bundle(self):
        if self.unreadable:
            raise BundleMismatch(f"version {self.version} is of format 1: expected 2")
        return self

    def build_all(self):
        return () if self.stored is None else self.stored.build_all()


def meet(challenger, champion, *, mean=1e-3, made_at=500, first=1):
    met = contest(
        contestant(challenger),
        None if champion is None else contestant(champion),
        "" if champion else "there is no champion yet",
        rival=champion,
        mean=mean,
    )
    return dataclasses.replace(
        met,
        made_at=made_at * HOUR_MS,
        first_made_at=first * HOUR_MS,
        last_made_at=(first + DATES - 1) * HOUR_MS,
    )


@pytest.fixture
def run(warehouse):
    """Return a function that does what the asset does: decide, record and move the alias."""

    def run(registry, met, *, force=False, who="run-1", now=1_000):
        before = registry.champion
        decision = decide_promotion(met, before, force=force, history=read_history(warehouse, met))
        added = settle(registry, warehouse, met, decision, before, who=who, decided_at=now)
        return decision, added

    return run


@pytest.fixture
def reigns(run):
    """Return a registry in which version 1, then 2, then 3 became champion."""
    registry = FakeRegistry()
    run(registry, meet("1", None))
    run(registry, meet("2", "1", made_at=600))
    run(registry, meet("3", "2", made_at=9000, first=8000))
    assert registry.champion == "3"
    return registry


def rows(warehouse):
    return read_promotions(warehouse).to_pylist()


def test_before_the_first_decision_the_log_is_empty(warehouse):
    assert rows(warehouse) == []
    assert read_history(warehouse, meet("2", "1")).held == ()


def test_a_promotion_is_a_row_with_who_when_what_and_why(warehouse, run):
    registry = FakeRegistry("1")
    decision, added = run(registry, meet("2", "1"), who="run-7", now=1_700_000_000_000)
    assert added
    assert registry.champion == "2"
    assert registry.tags["2"] == {"rival": "1", "promotion": decision.reason}
    (row,) = rows(warehouse)
    figures = json.loads(row.pop("figures"))
    first = decision.comparisons[0]
    assert row == {
        "number": 1,
        "decided_at": 1_700_000_000_000,
        "who": "run-7",
        "action": "promoted",
        "challenger": "2",
        "champion": "1",
        "forced": False,
        "reason": decision.reason,
        "made_at": 500 * HOUR_MS,
        "first_made_at": HOUR_MS,
        "last_made_at": DATES * HOUR_MS,
        "dates": DATES,
        "level": 0.025,
        "net_return_difference": first.difference,
        "lower": first.lower,
        "p_value": first.p_value,
    }
    assert figures["challenger"]["version"] == "2"
    assert [each["rival"] for each in figures["comparisons"]] == ["1", "no position"]


def test_a_refusal_is_a_row_too_and_moves_nothing(warehouse, run):
    registry = FakeRegistry("1")
    run(registry, meet("2", "1", mean=-1e-3))
    assert registry.champion == "1"
    assert [row["action"] for row in rows(warehouse)] == ["refused"]
    assert registry.tags["2"]["promotion"].startswith("version 2 is not better")


def test_the_first_champion_is_recorded_without_a_predecessor(warehouse, run):
    registry = FakeRegistry()
    run(registry, meet("1", None))
    assert registry.champion == "1"
    (row,) = rows(warehouse)
    assert (row["champion"], row["level"], row["p_value"]) == (None, 0, None)


def test_an_override_is_recorded_as_one(warehouse, run):
    run(FakeRegistry("1"), meet("2", "1", mean=-1e-3), force=True, who="anna")
    (row,) = rows(warehouse)
    assert (row["action"], row["forced"], row["who"]) == ("promoted", True, "anna")
    assert row["reason"] == "forced over champion 1"


@pytest.mark.parametrize("mean", [1e-3, -1e-3])
def test_the_same_decision_made_again_adds_nothing(warehouse, run, mean):
    registry = FakeRegistry("1")
    run(registry, meet("2", "1", mean=mean))
    before = rows(warehouse)
    _, added = run(registry, meet("2", "1", mean=mean), now=2_000)
    assert not added
    assert rows(warehouse) == before
    assert registry.champion == ("2" if mean > 0 else "1")


def test_a_promotion_that_was_killed_before_the_alias_moved_is_finished_by_the_next_run(
    warehouse, run
):
    registry = FakeRegistry("1")
    registry.broken = True
    with pytest.raises(OSError, match="away"):
        run(registry, meet("2", "1"))
    registry.broken = False
    _, added = run(registry, meet("2", "1"))
    assert not added
    assert registry.champion == "2"
    assert len(rows(warehouse)) == 1


def test_a_contest_spends_the_level_of_its_dates_for_the_next(run):
    registry = FakeRegistry("1")
    assert run(registry, meet("2", "1", mean=-1e-3))[0].level == 0.025
    same_dates, _ = run(registry, meet("3", "1", made_at=501))
    assert same_dates.comparisons == ()
    half_fresh, _ = run(registry, meet("4", "1", made_at=700, first=201))
    assert half_fresh.level == pytest.approx(0.0125)


@pytest.mark.parametrize("mean", [1e-3, -1e-3])
def test_a_contest_repeated_on_other_terms_counts_as_another_look_and_is_a_row(
    warehouse, run, mean
):
    registry = FakeRegistry("1")
    first = dataclasses.replace(meet("2", "1", mean=-1e-3), terms="dear")
    cheap = dataclasses.replace(meet("2", "1", mean=mean), terms="cheap")
    run(registry, first)
    decision, added = run(registry, cheap)
    assert added
    assert decision.reason.startswith("not compared: 0.0% of the dates")
    assert [(row["action"], row["level"]) for row in rows(warehouse)] == [
        ("refused", 0.025),
        ("refused", 0.0),
    ]
    assert json.loads(rows(warehouse)[0]["figures"])["terms"] == "dear"
    again, added = run(registry, first)
    assert (again.level, added, registry.champion) == (0.025, False, "1")


def test_a_contest_repeated_by_other_rules_counts_as_another_look(warehouse, run):
    met = meet("2", "1", mean=-1e-3)
    run(FakeRegistry("1"), met)
    assert read_history(warehouse, met).held == ()
    (held,) = read_history(warehouse, met, GateRules(level=0.4)).held
    assert held.level == 0.025


def test_what_came_after_a_contest_does_not_change_its_repetition(warehouse, run):
    registry = FakeRegistry("1")
    first = meet("2", "1", mean=-1e-3)
    before = run(registry, first)[0]
    run(registry, meet("3", "1", mean=-1e-3, made_at=700, first=201))
    assert run(registry, first) == (before, False)


def test_a_row_that_tells_no_terms_was_another_look(warehouse, run):
    met = meet("2", "1", mean=-1e-3)
    run(FakeRegistry("1"), met)
    warehouse.execute("UPDATE promotions SET figures = '{}'")
    assert len(read_history(warehouse, met).held) == 1


def test_decisions_without_a_comparison_spend_nothing(warehouse, run):
    registry = FakeRegistry()
    run(registry, meet("1", None))
    run(registry, meet("2", "1"), force=True)
    assert read_history(warehouse, meet("3", "2")).held == ()


def test_a_rollback_gives_the_place_back_and_is_recorded(warehouse, reigns):
    restored = roll_back(reigns, warehouse, who="anna", decided_at=5_000, reason="bad fills")
    assert restored.version == reigns.champion == "2"
    row = rows(warehouse)[-1]
    assert (row["action"], row["challenger"], row["champion"]) == ("rolled back", "2", "3")
    assert row["reason"] == "rolled back from version 3 to version 2: bad fills"
    assert (row["who"], row["forced"], row["decided_at"]) == ("anna", True, 5_000)
    assert reigns.tags["3"]["promotion"] == "rolled back from version 3 to version 2"


def test_a_second_rollback_goes_one_champion_further_back(warehouse, reigns):
    for expected in ("2", "1"):
        roll_back(reigns, warehouse, who="anna", decided_at=5_000)
        assert reigns.champion == expected
    with pytest.raises(ModelNotRegistered, match="champion 1 had no predecessor"):
        roll_back(reigns, warehouse, who="anna", decided_at=5_000)
    assert reigns.champion == "1"


def test_what_was_rolled_back_from_is_not_promoted_by_the_next_run(warehouse, run, reigns):
    roll_back(reigns, warehouse, who="anna", decided_at=5_000)
    again = meet("3", "2", made_at=9000, first=8000)
    decision, added = run(reigns, again)
    assert added
    assert not decision.promoted
    assert decision.reason.startswith("version 3 was rolled back from")
    assert reigns.champion == "2"


def test_a_forced_return_after_a_rollback_is_recorded_and_can_be_rolled_back(
    warehouse, run, reigns
):
    roll_back(reigns, warehouse, who="anna", decided_at=5_000)
    again = meet("3", "2", made_at=9000, first=8000)
    _, added = run(reigns, again, force=True, who="anna")
    assert added
    assert reigns.champion == "3"
    assert read_history(warehouse, meet("4", "3")).withdrawn == frozenset()
    assert roll_back(reigns, warehouse, who="anna", decided_at=6_000).version == "2"


def test_a_champion_from_before_the_log_can_be_returned_to(warehouse, run):
    registry = FakeRegistry("7")
    run(registry, meet("8", "7"))
    assert roll_back(registry, warehouse, who="anna", decided_at=5_000).version == "7"


def test_an_alias_moved_by_hand_is_not_rolled_back_from(warehouse, reigns):
    reigns.champion = "9"
    with pytest.raises(ModelNotRegistered, match="does not end with champion 9 but with 3"):
        roll_back(reigns, warehouse, who="anna", decided_at=5_000)
    assert len(rows(warehouse)) == 3


def test_without_a_champion_there_is_nothing_to_roll_back(warehouse):
    with pytest.raises(ModelNotRegistered):
        roll_back(FakeRegistry(), warehouse, who="anna", decided_at=5_000)


def test_a_predecessor_that_cannot_be_read_is_not_returned_to(warehouse, reigns):
    reigns.unreadable.add("2")
    with pytest.raises(BundleMismatch, match="version 2 is of format 1"):
        roll_back(reigns, warehouse, who="anna", decided_at=5_000)
    assert reigns.champion == "3"
    assert len(rows(warehouse)) == 3


def test_an_ensemble_of_which_a_further_member_does_not_fit_is_not_returned_to(
    warehouse, reigns, make_bundle
):
    reigns.stored["2"] = dataclasses.replace(make_bundle(), siblings=({},))
    with pytest.raises(BundleMismatch, match="the weights do not fit the architecture"):
        roll_back(reigns, warehouse, who="anna", decided_at=5_000)
    assert reigns.champion == "3"
    assert len(rows(warehouse)) == 3


def test_a_rollback_cut_off_before_the_alias_moved_is_finished_and_goes_no_step_further(
    warehouse, reigns
):
    reigns.broken = True
    with pytest.raises(OSError, match="away"):
        roll_back(reigns, warehouse, who="anna", decided_at=5_000, reason="bad fills")
    assert (reigns.champion, len(rows(warehouse))) == ("3", 4)
    reigns.broken = False
    assert roll_back(reigns, warehouse, who="anna", decided_at=6_000).version == "2"
    assert (reigns.champion, len(rows(warehouse))) == ("2", 4)
    assert reigns.tags["3"]["promotion"].endswith("bad fills")


def test_a_promotion_cut_off_is_finished_whatever_is_decided_next(warehouse, run):
    registry = FakeRegistry("1")
    registry.broken = True
    with pytest.raises(OSError, match="away"):
        run(registry, meet("2", "1"))
    registry.broken = False
    assert finish_move(registry, warehouse) == "promoted"
    assert registry.champion == "2"
    assert registry.tags["2"]["rival"] == "1"
    assert finish_move(registry, warehouse) is None
    assert roll_back(registry, warehouse, who="anna", decided_at=5_000).version == "1"


def test_an_alias_moved_by_hand_is_left_where_it_is(warehouse, reigns):
    reigns.champion = "9"
    assert finish_move(reigns, warehouse) is None
    assert reigns.champion == "9"


def test_figures_that_are_not_defined_are_null_in_the_log(warehouse, run):
    run(FakeRegistry("1"), meet("2", "1"))
    figures = json.loads(rows(warehouse)[0]["figures"])
    assert figures["challenger"]["metrics"]["sharpe_annual"] is None


def test_a_refusal_without_a_comparison_has_no_figures_of_one(warehouse):
    registry, met = FakeRegistry("1"), meet("2", "1")
    refusal = Decision(False, "not comparable")
    assert settle(registry, warehouse, met, refusal, "1", who="run", decided_at=1)
    (row,) = rows(warehouse)
    assert row["net_return_difference"] is row["lower"] is None
    assert np.isfinite(row["level"])
