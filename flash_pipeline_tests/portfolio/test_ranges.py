import pytest

from flash_pipeline.errors import InvalidConfig, NotEnoughHistory
from flash_pipeline.portfolio import WalkConfig, walk_forward
from flash_pipeline_tests.portfolio.conftest import panel_of


@pytest.fixture(scope="module")
def panel():
    return panel_of()


@pytest.mark.parametrize("embargo", [0, 5])
def test_no_label_meets_the_next_range(panel, embargo):
    folds = walk_forward(panel, 32, 12, WalkConfig(folds=2, embargo=embargo))
    for fold in folds:
        # A label ends at the open of t + 1 + horizon, a decision is made at the close of t.
        for early, late in ((fold.train, fold.validation), (fold.validation, fold.test)):
            assert early[-1] + 1 + 12 + embargo <= late[0] + 1


def test_test_ranges_lie_end_to_end_and_their_labels_are_known(panel):
    folds = walk_forward(panel, 32, 12, WalkConfig(folds=3))
    assert folds[0].test.stop == folds[1].test.start
    assert folds[1].test.stop == folds[2].test.start
    assert folds[-1].test[-1] + 1 + 12 <= len(panel.start_time_T) - 1
    assert all(fold.train.start == folds[0].train.start for fold in folds)


def test_dates_are_told(panel):
    told = walk_forward(panel, 32, 12, WalkConfig())[0].to_dict(panel)
    assert told["fold"] == 1
    assert told["train"]["from"] < told["validation"]["from"] < told["test"]["to"]


def test_a_history_shorter_than_a_window_is_told(panel):
    with pytest.raises(NotEnoughHistory, match=r"hours for train, expected at least 300"):
        walk_forward(panel, 300, 12, WalkConfig())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"folds": 0}, "folds=0"), ({"history": 1.0}, "history=1.0"), ({"embargo": -1}, "embargo=-1")],
)
def test_numbers_out_of_bounds_are_refused(options, message):
    with pytest.raises(InvalidConfig, match=message):
        WalkConfig(**options)
