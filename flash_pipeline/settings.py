"""The settings of a process, read from the environment in one place."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from flash_pipeline.errors import HomeNotWritable, InvalidSetting

RECIPE_CHOICES = ("auto", "demo", "seed", "full")
"""What `FLASH_PIPELINE_RECIPE` may be."""


@dataclass(frozen=True)
class Settings:
    """Where a process reads from and writes to.

    Raises
    ------
    InvalidSetting
        For a recipe or an exchange URL that cannot be used, with the variable's name.
    """

    home: Path
    """Folder that everything a run writes lives under."""
    bybit_url: str | None = None
    """Base URL of the exchange; None starts the embedded one on loopback."""
    recipe: str = "auto"
    """`auto`, `demo`, `seed` or `full`."""
    tracking_uri: str = field(default="")
    """MLflow tracking URI; empty for sqlite under the home."""

    def __post_init__(self) -> None:
        if self.recipe not in RECIPE_CHOICES:
            raise InvalidSetting(
                f"FLASH_PIPELINE_RECIPE={self.recipe!r} is unknown: "
                f"expected one of {', '.join(RECIPE_CHOICES)}"
            )
        if self.bybit_url is not None and not _is_web_url(self.bybit_url):
            raise InvalidSetting(
                f"FLASH_PIPELINE_BYBIT_URL={self.bybit_url!r} is no URL: "
                "expected http(s)://host, such as https://api.bybit.com"
            )
        if not self.tracking_uri:
            object.__setattr__(self, "tracking_uri", f"sqlite:///{self.mlflow_database}")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read the settings from `environ`, by default the process's environment.

        A variable that is unset or empty takes its default, as the README lists.
        """
        values = os.environ if environ is None else environ
        home = values.get("FLASH_PIPELINE_HOME")
        url = values.get("FLASH_PIPELINE_BYBIT_URL")
        return cls(
            home=_parse_home(home) if home else _default_home(),
            bybit_url=url.rstrip("/") if url else None,
            recipe=values.get("FLASH_PIPELINE_RECIPE") or "auto",
            tracking_uri=values.get("MLFLOW_TRACKING_URI") or "",
        )

    @property
    def klines(self) -> Path:
        """Folder of the candles: `symbol=…/month=YYYY-MM.parquet`."""
        return self.home / "klines"

    @property
    def instruments(self) -> Path:
        """Parquet file of the instruments' specifications."""
        return self.home / "instruments.parquet"

    @property
    def warehouse(self) -> Path:
        """DuckDB file with the tables `features` and `forecasts`."""
        return self.home / "warehouse.duckdb"

    @property
    def windows(self) -> Path:
        """Folder of the window tensors: `blocks.parquet`, `windows.parquet`."""
        return self.home / "windows"

    @property
    def checkpoints(self) -> Path:
        """Folder of the file that a killed training goes on from."""
        return self.home / "checkpoints"

    @property
    def reports(self) -> Path:
        """Folder of the backtest reports, one folder each."""
        return self.home / "reports"

    @property
    def contest(self) -> Path:
        """JSON file of the newest meeting of challenger and champion."""
        return self.home / "contest.json"

    @property
    def mlflow_database(self) -> Path:
        """Sqlite file of MLflow, used unless `MLFLOW_TRACKING_URI` says otherwise."""
        return self.home / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        """Folder of MLflow's artifacts, used beside the sqlite file."""
        return self.home / "mlflow-artifacts"

    @property
    def dagster_home(self) -> Path:
        """Dagster's own storage, used unless `DAGSTER_HOME` says otherwise."""
        return self.home / "dagster"

    def require_home(self) -> Path:
        """Create the home folder and prove that it can be written.

        Raises
        ------
        HomeNotWritable
            If it cannot be made or written, with the path and the system's reason.
        """
        probe = self.home / f".write-probe-{os.getpid()}"
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise HomeNotWritable(
                f"FLASH_PIPELINE_HOME={str(self.home)!r} cannot be written: {error.strerror}"
            ) from error
        return self.home


def _is_web_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0


def _parse_home(text: str) -> Path:
    try:
        return Path(text).expanduser().resolve()
    except RuntimeError as error:  # `~name` of a user that this machine does not have
        raise InvalidSetting(f"FLASH_PIPELINE_HOME={text!r} is no folder: {error}") from error


def redacted(uri: str) -> str:
    """Return a text without the users, passwords and tokens that URIs in it may carry.

    Examples
    --------
    >>> redacted("postgresql://me:secret@host/mlflow")
    'postgresql://***@host/mlflow'
    """
    without_user = re.sub(r"(?<=://)[^/\s?#][^\s?#]*@", "***@", uri)
    return re.sub(r"(?i)([?&](?:password|passwd|pwd|token|secret)=)[^&\s]*", r"\1***", without_user)


def _default_home() -> Path:
    """Return `data/` of the project, or of the current folder for an installed package."""
    project = Path(__file__).resolve().parent.parent
    return (project if (project / "pyproject.toml").is_file() else Path.cwd()) / "data"
