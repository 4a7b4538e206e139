"""Shape letters: T hours, A instruments."""

import numpy as np
import pytest

from flash_pipeline.errors import InvalidConfig, InvalidInput
from flash_pipeline.market import parse_instant
from flash_pipeline.portfolio import UniverseConfig, membership, most_traded

NAMES = ("AA", "BB", "CC", "DD")
TWO = UniverseConfig(n_assets=2, trailing_hours=10, refresh_hours=24, alive_hours=3)
HOUR = 3_600_000


@pytest.fixture
def turnover():
    return np.tile([4.0, 3.0, 2.0, 1.0], (100, 1))


def chosen(turnover_TA, as_of, config=TWO):
    kept_A = most_traded(turnover_TA, NAMES, as_of, config)
    return [name for name, kept in zip(NAMES, kept_A, strict=True) if kept]


def test_the_most_traded_are_chosen(turnover):
    assert chosen(turnover, 50) == ["AA", "BB"]


def test_one_delisted_later_is_in_the_earlier_universe_and_not_in_the_later(turnover):
    turnover[60:, 0] = np.nan
    assert chosen(turnover, 60) == ["AA", "BB"]
    assert chosen(turnover, 63) == ["BB", "CC"]  # its trailing turnover is still the largest


def test_one_listed_later_is_not_in_the_earlier_universe(turnover):
    turnover[:60, 0] = np.nan
    assert chosen(turnover, 60) == ["BB", "CC"]
    assert chosen(turnover, 70) == ["AA", "BB"]


def test_nothing_after_the_date_decides(turnover):
    before = [chosen(turnover, row) for row in range(1, 50)]
    turnover[50:] = np.random.default_rng(0).uniform(0, 100, (50, 4))
    turnover[50:, 0] = np.nan
    assert [chosen(turnover, row) for row in range(1, 50)] == before


def test_only_the_trailing_hours_count(turnover):
    turnover[:40, 3] = 1e9
    assert chosen(turnover, 50) == ["AA", "BB"]
    assert chosen(turnover, 49) == ["AA", "DD"]


def test_of_equals_the_first_by_name_is_chosen():
    turnover = np.ones((20, 4))
    assert chosen(turnover, 15) == ["AA", "BB"]
    names = ("DD", "CC", "BB", "AA")
    assert most_traded(turnover, names, 15, TWO).tolist() == [False, False, True, True]


def test_fewer_than_asked_for_are_all(turnover):
    turnover[:, :3] = np.nan
    assert chosen(turnover, 50) == ["DD"]
    assert chosen(turnover, 0) == []


def test_members_are_elected_at_the_open_and_stay_to_the_next_election(turnover):
    start = parse_instant("2024-01-01") + HOUR * np.arange(100)
    turnover[30:, 2] = 100.0
    members = membership(turnover, start, NAMES, TWO)
    assert not members[:24].any()
    assert (members[24:48] == [True, True, False, False]).all()
    assert (members[48:] == [True, False, True, False]).all()


def test_wrong_dates_and_names_are_refused(turnover):
    with pytest.raises(InvalidInput, match="as_of is 101"):
        most_traded(turnover, NAMES, 101, TWO)
    with pytest.raises(InvalidInput, match="3 symbols for 4 columns"):
        most_traded(turnover, NAMES[:3], 50, TWO)
    with pytest.raises(InvalidConfig, match="n_assets is 0"):
        UniverseConfig(n_assets=0)
