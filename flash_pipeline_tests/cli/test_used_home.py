"""A mistyped home: told as such, and not made."""

import pytest

from flash_pipeline.errors import HomeUnused

READING = [
    ("forecast",),
    ("forecast", "--json"),
    ("promotions",),
    ("audit",),
    ("rollback",),
    ("prune", "--dry-run"),
    ("prune",),
]


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_a_home_that_is_not_there_is_told_and_not_made(invoke, tmp_path, words):
    home = tmp_path / "mistyped"
    done = invoke(home, *words)
    assert isinstance(done.exception, HomeUnused)
    assert f"FLASH_PIPELINE_HOME={str(home)!r} does not exist" in str(done.exception)
    assert not home.exists()


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_another_folder_stays_as_it_is(invoke, tmp_path, words):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    done = invoke(tmp_path / "letters", *words)
    assert "has no mlflow.db: expected the home of an earlier run" in str(done.exception)
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["a.txt"]


def test_with_a_store_elsewhere_the_home_is_told_by_its_warehouse(invoke, tmp_path):
    uri = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    done = invoke(tmp_path / "mistyped", "forecast", MLFLOW_TRACKING_URI=uri)
    assert isinstance(done.exception, HomeUnused)
    assert list(tmp_path.glob("*")) == []


def test_the_doctor_makes_nothing_and_says_what_is_not_there(invoke, tmp_path):
    home = tmp_path / "mistyped"
    done = invoke(home, "doctor")
    assert f"{home} is not there yet: the first run makes it" in done.output
    assert not home.exists()
