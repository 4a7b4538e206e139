"""The asset group of the order book, at a tiny size, and its checks."""

import dataclasses
import io
import json
import zipfile

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
from flash_pipeline.defs.resources import ExchangeResource, PipelineResource
from flash_pipeline.order_book import BookGap, BookStore
from flash_pipeline.settings import Settings
from flash_pipeline.training.tracking.sequences import ORDER_BOOK_MODEL, sequence_at
from flash_pipeline.transport import HttpTransport
from flash_pipeline_tests.order_book.conftest import line, made_series
from flash_pipeline_tests.transport.conftest import WireServer, _http

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
        "exchange": ExchangeResource(step_retries=2, retry_delay_s=0.01),
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
    assert metadata["order_book_snapshots"]["cadence_ms"].text == "1000", "no flat line of a plot"
    assert metadata["order_book_model"]["tokens"].text == str(4 * 2 * 6)
    report = metadata["order_book_report"]
    assert "imbalance" in report["verdict"].md_str
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


def fetched(monkeypatch, *answers):
    """Materialize the snapshots of an archive that gives these answers, the last for ever."""
    server = WireServer(*answers)

    def once(_url):
        return HttpTransport([server.url], attempts=1)

    monkeypatch.setattr("flash_pipeline.defs.assets.order_book.archive_transport", once)
    monkeypatch.setenv("FLASH_PIPELINE_BYBIT_URL", "http://127.0.0.1:9")
    try:
        result = dg.materialize(
            [order_book_snapshots],
            resources={
                "pipeline": PipelineResource(recipe="demo"),
                "exchange": ExchangeResource(step_retries=2, retry_delay_s=0.01),
                "order_book": BookResource(recipe="demo", symbols=["BTCUSDT"], levels=2),
            },
            run_config={
                "ops": {"order_book_snapshots": {"config": {"archive_days": ["2026-03-10"]}}}
            },
            raise_on_error=False,
        )
    finally:
        server.close()
    kinds = [event.event_type_value for event in result.all_events]
    return result, kinds.count("STEP_UP_FOR_RETRY"), len(server.requests)


def test_an_archive_that_is_away_is_tried_again_after_a_while(home, monkeypatch):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        first = line("snapshot", 0, 7, [(99, 1), (98, 2)], [(101, 1), (102, 2)])
        file.writestr("day.data", json.dumps(first) + "\n")
    away = _http(b"", status="503 Service Unavailable")
    result, retries, requests = fetched(monkeypatch, away, _http(buffer.getvalue()))
    assert (result.success, retries, requests) == (True, 1, 2)
    again, retries, requests = fetched(monkeypatch, away)
    assert (again.success, retries, requests) == (True, 0, 0), "what is there is not fetched again"


@pytest.mark.parametrize(
    ("status", "retries"), [("503 Service Unavailable", 2), ("404 Not Found", 0)]
)
def test_an_archive_that_stays_away_or_lacks_the_day_fails(home, monkeypatch, status, retries):
    result, tried, requests = fetched(monkeypatch, _http(b"", status=status))
    assert (result.success, tried, requests) == (False, retries, retries + 1)


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
