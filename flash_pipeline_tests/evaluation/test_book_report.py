"""The page and the pictures of an order book's session. Shape letters: N windows, H horizons."""

import json

import numpy as np
import pytest

from flash_pipeline.evaluation import book_figures
from flash_pipeline.evaluation.book_report import score_table, write_book_report
from flash_pipeline.training.book_results import BookAttention, BookResults

N, HORIZONS, LEVELS = 400, (1, 10), 3
TRAINING = {
    "parameters": 1_000, "layers": 2, "seconds": 1.5, "attention": "sdpa", "form": "eager",
    "supervision": "dense",
}  # fmt: skip


def attention(lags):
    random = np.random.default_rng(0)
    by_cell_LGG = random.random((2, 2 * LEVELS, 2 * LEVELS)).astype(np.float32)
    return BookAttention(by_cell_LGG, random.random((2, lags)).astype(np.float32), 5)


def results(lags=8, **changes):
    random = np.random.default_rng(1)
    label_NH = random.integers(0, 3, (N, len(HORIZONS)))
    truth = np.eye(3, dtype=np.float32)[label_NH]
    shares = {"imbalance": 0.0, "order flow": 0.05, "state": 0.1, "joint": 0.3, "axial": 0.2}
    facts = {
        "symbols": ["BTCUSDT"], "synthetic": True, "version": "1", "levels": LEVELS,
        "history_length": lags, "cadence_ms": 1_000, "stride_ms": 5_000, "horizons": HORIZONS,
        "threshold_bp": [0.5, 1.0], "windows": [900, 100, N], "train_from": 0,
        "train_until": 3_600_000, "held_out": "a day", "trainings": {"joint": TRAINING},
    }  # fmt: skip
    return BookResults(
        np.arange(N) * 5_000,
        np.zeros(N, np.int64),
        label_NH,
        (label_NH - 1) + 0.1 * random.normal(size=label_NH.shape),
        {name: (s * truth + (1 - s) / 3).astype(np.float32) for name, s in shares.items()},
        attention(lags),
        {**facts, **changes},
    )


def test_the_report_says_who_beats_whom_and_what_the_numbers_rest_on(tmp_path):
    report = write_book_report(tmp_path / "report", results())
    page = (tmp_path / "report" / "report.html").read_text()
    assert "SYNTHETIC BOOK" in page
    assert f"The order-book model {report.verdict}." in page
    assert report.verdict.startswith("beats logistic imbalance by 0.47")
    assert "; it beats logistic state by 0.28" in report.verdict
    assert '<th scope="row">joint</th><td class="number">all</td>' in page
    assert "a label for every snapshot of a window, sdpa, eager" in page
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["verdict"]
    for png in report.pictures.values():
        assert png.startswith(b"\x89PNG")


def test_a_session_from_before_every_snapshot_taught_says_so(tmp_path):
    old = {key: value for key, value in TRAINING.items() if key != "supervision"}
    write_book_report(tmp_path / "report", results(trainings={"joint": old}))
    assert (
        "a label for the last snapshot of a window"
        in (tmp_path / "report" / "report.html").read_text()
    )


def test_a_row_of_the_table_leaves_out_what_is_compared_with_itself(tmp_path):
    rows = score_table(write_book_report(tmp_path / "report", results()))
    (own,) = (row for row in rows if (row["model"], row["horizon"]) == ("state", "10"))
    assert own["better than state"] == ""
    assert own["better than imbalance"].startswith("+0.1")


@pytest.mark.parametrize(("lags", "scale"), [(8, "linear"), (100, "linear"), (1000, "symlog")])
def test_of_many_lags_the_nearest_take_the_most_room(monkeypatch, lags, scale):
    monkeypatch.setattr(book_figures, "_png", lambda figure: figure)
    (axes,) = book_figures.lags_picture(attention(lags), 1_000).axes
    assert axes.get_xscale() == scale
    left, right = axes.get_xlim()
    assert left < 0 < lags - 1 <= right
    if scale == "symlog":
        assert {0, 5, 10, 500} <= set(axes.get_xticks())
