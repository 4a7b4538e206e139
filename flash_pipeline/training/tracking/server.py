"""The MLflow UI of the default store."""

import sys
from collections.abc import Mapping

from flash_pipeline.settings import Settings


def server_command(settings: Settings, host: str, port: int) -> list[str]:
    """Return the command that serves the store's UI to this machine alone.

    One worker and no job execution: half a gigabyte and seven seconds to start, in place of
    three gigabytes and eleven. Other sites can neither call nor frame it.
    """
    origins = f"http://{host}:{port},http://localhost:{port}"
    return [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
        *("--uvicorn-opts", "--log-level warning"),
        *("--host", host, "--port", str(port)),
        *("--allowed-hosts", f"{host}:{port},localhost:{port}"),
        *("--cors-allowed-origins", origins, "--x-frame-options", "DENY"),
        *("--default-artifact-root", settings.mlflow_artifacts.as_uri()),
    ]


def server_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a server that runs no jobs and unpickles nothing.

    The store's URI goes here and not into the command, since it may carry a password.
    """
    return {
        **environ,
        "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
