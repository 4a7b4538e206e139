"""The asset group of the order book, at a tiny size, and its checks."""

import dataclasses
import json

import dagster as dg
import numpy as np
import pytest

from flash_pipeline.defs.assets.order_book import (
    CHECKS,
    BookResource,
    books_are_sound,
    no_delta_is_missing,
    order_book_model,
    order_book_report,
    order_book_snapshots,
)
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.order_book import BookGap, BookStore
from flash_pipeline.settings import Settings
from flash_pipeline.training.tracking.sequences import ORDER_BOOK_MODEL, sequence_at
from flash_pipeline_tests.order_book.conftest import made_series

GROUP = [order_book_snapshots, order_book_model, order_book_report]


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("FLASH_PIPELINE_BYBIT_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLASH_PIPELINE_HOME", str(tmp_path))
    return tmp_path


def materialize(assets, **sizes):
    given = {"hours": 0.5, "levels": 4, "history": 6, "stride": 10, "epochs": 1, **sizes}
    resources = {
        "pipeline": PipelineResource(recipe="demo"),
        "order_book": BookResource(recipe="demo", windows_per_epoch=64, **given),
    }
    return dg.materialize(
        [*assets, *CHECKS], resources=resources, raise_on_error=False, selection=assets
    )


def test_the_group_trains_registers_and_reports(home):
    result = materialize(GROUP)
    assert result.success
    metadata = {
        event.asset_key.to_user_string(): event.step_materialization_data.materialization.metadata
        for event in result.get_asset_materialization_events()
    }
    assert metadata["order_book_snapshots"]["dagster/row_count"].value == 1800
    report = metadata["order_book_report"]
    assert "imbalance" in report["verdict"].text
    assert "there was none" in report["champion"].text
    assert set(report) >= {"gain", "levels", "interactions", "lags", "reliability", "scores"}
    champion = sequence_at(Settings(home=home), ORDER_BOOK_MODEL)
    assert champion.version == "1"
    (folder,) = (home / "reports").iterdir()
    numbers = json.loads((folder / "metrics.json").read_text())
    models = {row["model"] for row in numbers["scores"]}
    assert models == {"imbalance", "order flow", "state", "joint", "axial"}
    assert {row["model"] for row in numbers["scores_over_state"]} == models
    assert "logistic state" in numbers["verdict"]
    assert np.isclose(np.sum(numbers["attention"]["by_level_and_side"]), 1)
    assert "SYNTHETIC BOOK" in (folder / "report.html").read_text()
    again = materialize([order_book_model, order_book_report])
    assert again.success
    story = again.output_for_node("order_book_model")
    assert sequence_at(Settings(home=home), ORDER_BOOK_MODEL, "challenger").version == "1", story


def test_too_little_history_says_so(home):
    result = materialize(GROUP[:2], hours=0.002)
    assert not result.success
    failed = result.get_step_failure_events()
    assert "snapshots" in failed[0].step_failure_data.error.cause.message


@pytest.fixture
def stored(home):
    def stored(series):
        BookStore(home / "order_book").write(series, synthetic=True)
        pipeline = PipelineResource(recipe="demo")
        order_book = BookResource(recipe="demo")
        return [check(pipeline, order_book) for check in (books_are_sound, no_delta_is_missing)]

    return stored


def test_a_crossed_book_and_a_missing_delta_are_found(stored):
    whole = made_series(50)
    assert [result.passed for result in stored(whole)] == [True, True]
    book = whole.book_TLS2.copy()
    book[7, 0, 0, 0] = 2.0
    assert "crossed" in stored(dataclasses.replace(whole, book_TLS2=book))[0].description
    gap = BookGap("missing", int(whole.time_T[3]), int(whole.time_T[4]), "line 9")
    missing = stored(dataclasses.replace(whole, gaps=(gap,)))[1]
    assert not missing.passed
    assert "missing from" in missing.description
