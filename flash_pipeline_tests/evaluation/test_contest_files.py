import dataclasses
import math

import pytest

from flash_pipeline.errors import SchemaMismatch
from flash_pipeline.evaluation import Contest, decide_promotion

HOUR_MS = 3_600_000


def test_a_contest_comes_back_as_it_was_saved(contest, make_bundle, tmp_path):
    met, _ = contest(make_bundle(), make_bundle(seed=1, silent=True))
    met.save(tmp_path / "contest.json")
    again = Contest.load(tmp_path / "contest.json")
    assert again.challenger == met.challenger
    assert math.isnan(again.champion.quality["rank_ic"])
    assert again.champion.loss == met.champion.loss
    assert dataclasses.replace(again, champion=None) == dataclasses.replace(met, champion=None)


def test_a_contest_without_champion_comes_back_as_well(contest, make_bundle, tmp_path):
    met, _ = contest(make_bundle())
    met.save(tmp_path / "contest.json")
    assert Contest.load(tmp_path / "contest.json") == met


def test_a_contest_decides_alike_once_it_was_stored(contest, make_bundle, tmp_path):
    met, _ = contest(make_bundle(), make_bundle(seed=1))
    met.save(tmp_path / "contest.json")
    again = Contest.load(tmp_path / "contest.json")
    assert decide_promotion(again, "1") == decide_promotion(met, "1")


def test_figures_beside_the_tracks_of_another_contest_are_refused(contest, make_bundle, tmp_path):
    met, _ = contest(make_bundle())
    met.save(tmp_path / "contest.json")
    other = dataclasses.replace(met, made_at=met.made_at + HOUR_MS)
    other.save(tmp_path / "other.json")
    (tmp_path / "other.parquet").replace(tmp_path / "contest.parquet")
    with pytest.raises(SchemaMismatch, match="materialize backtest_report again"):
        Contest.load(tmp_path / "contest.json")


def test_figures_without_their_tracks_are_refused(contest, make_bundle, tmp_path):
    contest(make_bundle())[0].save(tmp_path / "contest.json")
    (tmp_path / "contest.parquet").unlink()
    with pytest.raises(SchemaMismatch, match="holds no contest"):
        Contest.load(tmp_path / "contest.json")


@pytest.mark.parametrize("text", [None, "{", "{}", "[]"])
def test_a_file_that_is_no_contest_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "contest.json").write_text(text)
    with pytest.raises(SchemaMismatch, match="holds no contest"):
        Contest.load(tmp_path / "contest.json")
