import os
import socket
import sqlite3
import sys
import time
from contextlib import closing

import pytest
from mlflow.exceptions import MlflowException

from flash_pipeline.errors import TrackingUnreachable
from flash_pipeline.settings import Settings
from flash_pipeline.training.tracking import Registry
from flash_pipeline.training.tracking.store import connect, experiment_id


@pytest.fixture
def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "mlruns", "databricks", "s3://bucket"])
def test_a_store_without_a_registry_is_refused_by_name(tmp_path, uri):
    with pytest.raises(TrackingUnreachable, match=f"MLFLOW_TRACKING_URI='{uri}' cannot hold"):
        connect(Settings(home=tmp_path, tracking_uri=uri))


def test_a_server_that_does_not_answer_is_named_soon(tmp_path, monkeypatch, closed_port):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    uri = f"http://127.0.0.1:{closed_port}"
    started = time.monotonic()
    with pytest.raises(TrackingUnreachable, match=f"'{uri}' does not answer: .*refused"):
        connect(Settings(home=tmp_path, tracking_uri=uri))
    assert time.monotonic() - started < 20


def test_a_server_is_asked_a_few_times_unless_told(registry, monkeypatch):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    connect(registry.settings)
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(TrackingUnreachable, match=r"mlflow\.db' does not answer: file is not a"):
        connect(Settings(home=tmp_path))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingUnreachable, match="does not answer"):
        connect(Settings(home=tmp_path / "file" / "home"))


def test_the_database_is_read_while_it_is_written(registry, tmp_path):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]


def test_no_model_is_unpickled(registry):
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


def test_the_experiment_is_made_once_with_its_artifacts_below_the_home(registry, tmp_path):
    first = experiment_id(registry.client, registry.settings)
    again = Registry(registry.settings)
    assert experiment_id(again.client, again.settings) == first
    location = registry.client.get_experiment(first).artifact_location
    assert location == (tmp_path / "mlflow-artifacts").as_uri()


SECRET_URI = "postgresql://me:secret@127.0.0.1:1/x"


@pytest.mark.parametrize("uri", ["http://me:secret@127.0.0.1:1", "s3://me:secret@bucket"])
def test_a_store_that_cannot_be_used_is_named_without_its_password(tmp_path, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingUnreachable, match=r"MLFLOW_TRACKING_URI='.*\*\*\*@") as caught:
        connect(Settings(home=tmp_path, tracking_uri=uri))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql+none", "sqlite+none", "mysql+none"])
def test_an_unknown_driver_is_named_without_the_password(tmp_path, monkeypatch, scheme):
    monkeypatch.chdir(tmp_path)
    uri = f"{scheme}://me:secret@127.0.0.1:1/x"
    with pytest.raises(TrackingUnreachable, match=r"MLFLOW_TRACKING_URI='.*\+none:") as caught:
        connect(Settings(home=tmp_path, tracking_uri=uri))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_reason_of_a_database_is_told_without_its_password(tmp_path, monkeypatch):
    def refuse(*_):
        raise MlflowException(f"cannot connect to {SECRET_URI}: refused")

    monkeypatch.setattr("flash_pipeline.training.tracking.store.MlflowClient", refuse)
    with pytest.raises(TrackingUnreachable, match=r"x' does not answer: .*refused") as caught:
        connect(Settings(home=tmp_path, tracking_uri=SECRET_URI))
    assert str(caught.value).count("postgresql://***@127.0.0.1:1/x") == 2
    assert "secret" not in str(caught.value)


def test_a_database_whose_driver_is_not_installed_is_named_without_its_password(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(TrackingUnreachable, match=r"postgresql://\*\*\*@") as caught:
        connect(Settings(home=tmp_path, tracking_uri=SECRET_URI))
    assert "secret" not in str(caught.value)
