"""What the registry keeps of the report on a version."""

from tempfile import TemporaryDirectory

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq

from flash_pipeline.training.tracking.registry import RegisteredModel, Registry

PREDICTIONS_FILE = "predictions.parquet"
"""The predictions of a report, one row per date and symbol."""


def report_predictions(registry: Registry, model: RegisteredModel) -> pa.Table | None:
    """Return the predictions of the newest report on a version; None where none was logged.

    Parameters
    ----------
    registry : Registry
        Where the version is.
    """
    path = f"report/{PREDICTIONS_FILE}"
    logged = {each.path for each in registry.client.list_artifacts(model.run_id, "report")}
    if path not in logged:
        return None
    with TemporaryDirectory(prefix="report-") as folder:
        found = mlflow.artifacts.download_artifacts(
            run_id=model.run_id, artifact_path=path, dst_path=folder
        )
        return pq.read_table(found, partitioning=None)
