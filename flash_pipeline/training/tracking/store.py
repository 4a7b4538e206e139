"""How this process talks to the MLflow store."""

import logging
import os
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from flash_pipeline.errors import TrackingUnreachable
from flash_pipeline.settings import Settings, redacted

EXPERIMENT = "flash-attention-trader"
"""Name of the experiment that trainings and their reports are logged to."""

_REMOTE = {"http", "https"}
_DATABASES = {"sqlite", "postgresql", "mysql", "mssql"}


def connect(settings: Settings) -> MlflowClient:
    """Point MLflow at the configured store, prove that it answers, and return a client.

    A sqlite store is made when it is missing, with its write-ahead log on, so that the UI reads
    while a run writes. No model is ever unpickled in this process.

    Raises
    ------
    TrackingUnreachable
        If the store is of a kind that cannot hold a registry, or does not answer.
    """
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    # MLflow narrates each call at INFO, and warns that our weights are "artifacts".
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    uri = settings.tracking_uri
    scheme = urlsplit(uri).scheme.split("+")[0]
    if scheme not in _REMOTE | _DATABASES:
        raise TrackingUnreachable(
            f"MLFLOW_TRACKING_URI={redacted(uri)!r} cannot hold a model registry: expected a "
            "server (http://host:port) or a database (sqlite:////folder/mlflow.db)"
        )
    try:
        if urlsplit(uri)[:2] in (("sqlite", ""), ("sqlite+pysqlite", "")):  # no other is a path
            _prepare_sqlite(uri)
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        with quiet_mlflow():
            client = MlflowClient(uri, uri)
            client.search_experiments(max_results=1)
    except (MlflowException, ImportError, OSError, sqlite3.Error, SQLAlchemyError) as error:
        reason = redacted(str(error).splitlines()[0])
        raise TrackingUnreachable(
            f"MLFLOW_TRACKING_URI={redacted(uri)!r} does not answer: {reason}"
        ) from error
    return client


def experiment_id(client: MlflowClient, settings: Settings, name: str = EXPERIMENT) -> str:
    """Return the id of an experiment of ours, made on first use.

    Beside a database, artifacts go below the home; a server decides for itself.
    """
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    local = urlsplit(settings.tracking_uri).scheme not in _REMOTE
    location = settings.mlflow_artifacts.as_uri() if local else None
    return str(client.create_experiment(name, artifact_location=location))


class quiet_mlflow(warnings.catch_warnings):
    """Silence MLflow's advice on things this project does on purpose, for the block."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", module="mlflow")
        # SQLAlchemy 2.1 on MLflow's own tables.
        warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)


def _prepare_sqlite(uri: str) -> None:
    path = Path(urlsplit(uri).path.removeprefix("/"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
