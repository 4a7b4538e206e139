"""The MLflow UI of the default store."""

import sys
from collections.abc import Mapping, Sequence

from flash_pipeline.settings import Settings


def server_command(
    settings: Settings, host: str, port: int, names: Sequence[str] = ()
) -> list[str]:
    """Return the command that serves the store's UI to this machine alone.

    One worker and no job execution: half a gigabyte and seven seconds to start, in place of
    three gigabytes and eleven. Other sites can neither call nor frame it. Names are hosts that it
    is called by besides, at any port, such as that of a proxy.
    """
    tunnelled = (f"{host}:*", "localhost:*")  # another port at a tunnel's other end
    proxied = [each for name in names for each in (name, f"{name}:*")]
    origins = [f"http://{each}" for each in (f"{host}:{port}", f"localhost:{port}", *proxied)]
    origins += [f"https://{each}" for each in proxied]
    return [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
        *("--uvicorn-opts", "--log-level warning"),
        *("--host", host, "--port", str(port)),
        *("--allowed-hosts", ",".join((*tunnelled, *proxied))),
        *("--cors-allowed-origins", ",".join(origins), "--x-frame-options", "DENY"),
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
