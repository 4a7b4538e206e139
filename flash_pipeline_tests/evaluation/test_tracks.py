import dataclasses

import numpy as np
import pytest

from flash_pipeline.errors import SchemaMismatch
from flash_pipeline.evaluation.tracks import Track, Tracks


def track(name, *, seed=0, **changes):
    rng = np.random.default_rng(seed)
    made = Track(
        name=name,
        symbols=("BTCUSDT", "ETHUSDT"),
        horizon=4,
        made_at_T=np.arange(5) * 3_600_000,
        net_return_T=rng.normal(0, 0.01, 5),
        loss_T=np.array([1.0, np.nan, 2.0, 3.0, 4.0]),
        measured_as="regression",
    )
    return dataclasses.replace(made, **changes)


def parts(tracks):
    everyone = [tracks.challenger, tracks.champion, *tracks.baselines]
    return [
        None
        if each is None
        else {f.name: np.asarray(getattr(each, f.name)).tolist() for f in dataclasses.fields(each)}
        for each in everyone
    ]


@pytest.mark.parametrize("champion", [None, track("1", seed=1, measured_as="direction")])
@pytest.mark.parametrize("baselines", [(), (track("ridge", seed=2), track("flat", seed=3))])
def test_tracks_come_back_as_they_were_saved(tmp_path, champion, baselines):
    tracks = Tracks(track("2"), champion, baselines)
    tracks.save(tmp_path / "tracks.parquet", {"made_at": 7})
    again, mark = Tracks.load(tmp_path / "tracks.parquet")
    np.testing.assert_equal(parts(again), parts(tracks))
    assert mark == {"made_at": 7}


def test_the_best_baseline_is_the_one_that_earned_most():
    low, high = (track(name, net_return_T=np.full(5, r)) for name, r in (("a", -0.1), ("b", 0.1)))
    assert Tracks(track("2"), None, (low, high)).best_baseline is high
    assert Tracks(track("2")).best_baseline is None


@pytest.mark.parametrize("content", [None, b"", b"PAR1 is not enough"])
def test_a_file_that_holds_no_tracks_is_refused(tmp_path, content):
    path = tmp_path / "tracks.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SchemaMismatch, match="holds no tracks of a contest"):
        Tracks.load(path)
