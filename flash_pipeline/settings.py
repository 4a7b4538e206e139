"""The settings of a process, read from the environment in one place."""

import ipaddress
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from flash_pipeline.errors import HomeNotWritable, InvalidSetting

RECIPE_CHOICES = ("auto", "demo", "seed", "full", "low-latency")
"""What `FLASH_PIPELINE_RECIPE` may be."""

GPU_TROUBLE_CHOICES = ("fail", "cpu", "skip")
"""What `FLASH_PIPELINE_ON_GPU_TROUBLE` may be."""

BYBIT_FALLBACKS = {"https://api.bybit.com": "https://api.bytick.com"}
"""The second host of the same exchange, asked where the first alone is set and fails."""

YAHOO_URLS = ("https://query1.finance.yahoo.com", "https://query2.finance.yahoo.com")
"""Yahoo's own hosts."""

VARIABLES = (
    "FLASH_PIPELINE_HOME",
    "FLASH_PIPELINE_BYBIT_URL",
    "FLASH_PIPELINE_YAHOO",
    "FLASH_PIPELINE_YAHOO_URL",
    "FLASH_PIPELINE_RECIPE",
    "FLASH_PIPELINE_ON_GPU_TROUBLE",
    "FLASH_PIPELINE_FREE_DISK_GIB",
    "FLASH_PIPELINE_FREE_MEMORY_GIB",
    "FLASH_PIPELINE_STALE_BARS",
    "FLASH_PIPELINE_WEBHOOK_URL",
    "FLASH_PIPELINE_REAL_DATA",  # of the tests
    "FLASH_PIPELINE_MLFLOW_UI",
    "MLFLOW_TRACKING_URI",
    "DAGSTER_HOME",
)
"""Every variable of the environment that the project reads."""

_MOST_BARS = 100_000
_SYMBOL = re.compile(r"[A-Z0-9]{2,20}")  # as `market.parse_symbol`, which lies beside this module
_TICKER = re.compile(r"\^?[A-Z0-9][A-Z0-9.&=-]{0,22}")


@dataclass(frozen=True)
class Settings:
    """Where a process reads from and writes to.

    Raises
    ------
    InvalidSetting
        For a value that cannot be used, with the variable's name.
    """

    home: Path
    """Folder that everything a run writes lives under."""
    bybit_urls: tuple[str, ...] = ()
    """Base URLs of the exchange's hosts, the preferred one first; none starts the embedded
    exchange on loopback."""
    yahoo_tickers: tuple[tuple[str, str], ...] = ()
    """Symbols that come from Yahoo Finance, each with its ticker there: `("SPX", "^GSPC")`."""
    yahoo_urls: tuple[str, ...] = ()
    """Base URLs of Yahoo's hosts, the preferred one first; by default the real ones beside a
    real exchange, and none, which asks the embedded one, beside that."""
    recipe: str = "auto"
    """`auto`, `demo`, `seed` or `full`."""
    tracking_uri: str = field(default="")
    """MLflow tracking URI; empty for sqlite under the home."""
    mlflow_ui: str = ""
    """Base URL of the MLflow UI that metadata links to; empty: the tracking server's own, if it is
    one. `flash_pipeline dev` sets it for what it starts."""
    webhook_url: str = field(default="", repr=False)
    """Where alerts are posted, https or on this machine; empty: to the log alone. A secret."""
    stale_bars: int = 3
    """Bars after whose close the newest candle or forecast is reported as late, at least 1."""
    on_gpu_trouble: str = "fail"
    """What a training does without a GPU that it could use: `fail`, `cpu` or `skip`."""
    free_disk_gib: float = 2.0
    """Disk below the home that a training leaves free, GiB."""
    free_memory_gib: float = 0.5
    """Memory that a training leaves free, of the machine and of the GPU, GiB."""

    def __post_init__(self) -> None:
        if self.recipe not in RECIPE_CHOICES:
            raise InvalidSetting(
                f"FLASH_PIPELINE_RECIPE={self.recipe!r} is unknown: "
                f"expected one of {', '.join(RECIPE_CHOICES)}"
            )
        _require_web_urls("FLASH_PIPELINE_BYBIT_URL", self.bybit_urls, "https://api.bybit.com")
        _require_web_urls("FLASH_PIPELINE_YAHOO_URL", self.yahoo_urls, YAHOO_URLS[0])
        if self.mlflow_ui:
            _require_web_urls(
                "FLASH_PIPELINE_MLFLOW_UI", (self.mlflow_ui,), "http://127.0.0.1:5000"
            )
        _require_tickers(self.yahoo_tickers)
        _require_webhook(self.webhook_url)
        if self.on_gpu_trouble not in GPU_TROUBLE_CHOICES:
            raise InvalidSetting(
                f"FLASH_PIPELINE_ON_GPU_TROUBLE={self.on_gpu_trouble!r} is unknown: "
                f"expected one of {', '.join(GPU_TROUBLE_CHOICES)}"
            )
        if self.bybit_urls and not self.yahoo_urls:
            object.__setattr__(self, "yahoo_urls", YAHOO_URLS)
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
        yahoo_url = values.get("FLASH_PIPELINE_YAHOO_URL")
        return cls(
            home=_parse_home(home) if home else _default_home(),
            bybit_urls=_with_fallback(_parse_hosts(url)) if url else (),
            yahoo_tickers=_parse_tickers(values.get("FLASH_PIPELINE_YAHOO") or ""),
            yahoo_urls=_parse_hosts(yahoo_url) if yahoo_url else (),
            recipe=values.get("FLASH_PIPELINE_RECIPE") or "auto",
            tracking_uri=values.get("MLFLOW_TRACKING_URI") or "",
            mlflow_ui=(values.get("FLASH_PIPELINE_MLFLOW_UI") or "").strip().rstrip("/"),
            webhook_url=(values.get("FLASH_PIPELINE_WEBHOOK_URL") or "").strip(),
            stale_bars=_parse_count(
                "FLASH_PIPELINE_STALE_BARS", values.get("FLASH_PIPELINE_STALE_BARS") or "3"
            ),
            on_gpu_trouble=gpu_trouble_choice(values),
            free_disk_gib=_parse_gib(
                "FLASH_PIPELINE_FREE_DISK_GIB", values.get("FLASH_PIPELINE_FREE_DISK_GIB") or "2"
            ),
            free_memory_gib=_parse_gib(
                "FLASH_PIPELINE_FREE_MEMORY_GIB",
                values.get("FLASH_PIPELINE_FREE_MEMORY_GIB") or "0.5",
            ),
        )

    @property
    def klines(self) -> Path:
        """Folder of the candles: `symbol=…/month=YYYY-MM.parquet`."""
        return self.home / "klines"

    @property
    def mark_klines(self) -> Path:
        """Folder of the mark price's candles: `symbol=…/month=YYYY-MM.parquet`."""
        return self.home / "mark_klines"

    @property
    def funding(self) -> Path:
        """Folder of the funding: `symbol=…/month=YYYY-MM.parquet`."""
        return self.home / "funding"

    @property
    def tickers(self) -> Path:
        """Parquet file of the newest tickers."""
        return self.home / "tickers.parquet"

    @property
    def order_book(self) -> Path:
        """Folder of the order books: `symbol=…/day=YYYY-MM-DD.parquet`."""
        return self.home / "order_book"

    @property
    def instruments(self) -> Path:
        """Parquet file of the instruments' specifications."""
        return self.home / "instruments.parquet"

    @property
    def bybit_circuit(self) -> Path:
        """JSON file that says until when a ban for the request rate lasts."""
        return self.home / ".bybit-circuit.json"

    @property
    def warehouse(self) -> Path:
        """DuckDB file: `features`, `forecasts`, `live_record`, `promotions`, recorded gaps."""
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
    def walk_forward(self) -> Path:
        """Folder of the walk-forward: its plan and windows, each fold, and all of them joined."""
        return self.home / "walk_forward"

    @property
    def market_panel(self) -> Path:
        """Parquet file of the whole market's panel."""
        return self.home / "market_panel.parquet"

    @property
    def portfolio(self) -> Path:
        """Folder of the portfolio model's decisions."""
        return self.home / "portfolio"

    @property
    def portfolio_report(self) -> Path:
        """Folder of the portfolio's report: the newest."""
        return self.home / "portfolio_report"

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


def _require_web_urls(variable: str, urls: tuple[str, ...], example: str) -> None:
    for url in urls:
        shown = redacted(url)
        if shown != url:
            raise InvalidSetting(
                f"{variable}={shown!r} comes with a user, a password or a token: expected a public "
                f"host, such as {example}"
            )
        if not _is_web_url(url):
            raise InvalidSetting(
                f"{variable}={url!r} is no URL: expected http(s)://host, such as {example}, "
                "or several of them with commas between"
            )


def _require_tickers(pairs: tuple[tuple[str, str], ...]) -> None:
    for symbol, ticker in pairs:
        if _SYMBOL.fullmatch(symbol) is None:
            raise InvalidSetting(
                f"FLASH_PIPELINE_YAHOO has the symbol {symbol!r}: expected 2 to 20 of A-Z and 0-9, "
                "then = and Yahoo's ticker, such as SPX=^GSPC"
            )
        if _TICKER.fullmatch(ticker) is None:
            raise InvalidSetting(
                f"FLASH_PIPELINE_YAHOO has the ticker {ticker!r} for {symbol}: expected up to 24 "
                "of A-Z, 0-9 and .&=-, with or without ^ in front, such as ^GSPC or BTC-USD"
            )
    for names in zip(*pairs, strict=True):
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise InvalidSetting(f"FLASH_PIPELINE_YAHOO names {repeated[0]!r} more than once")


def _require_webhook(url: str) -> None:
    """Refuse a webhook that would send messages in the clear; its address is never told."""
    if not url:
        return
    parts = urlsplit(url) if _is_web_url(url) else None
    safe = parts is not None and (parts.scheme == "https" or _is_loopback(parts.hostname or ""))
    if not safe or (parts is not None and "@" in parts.netloc):
        raise InvalidSetting(
            "FLASH_PIPELINE_WEBHOOK_URL cannot be used (it is a secret, so it is not shown): "
            "expected https://host/path without a user, or http://127.0.0.1:port/path"
        )


def _is_loopback(name: str) -> bool:
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _parse_count(variable: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MOST_BARS):
        raise InvalidSetting(f"{variable}={text!r} is no number: expected 1 to {_MOST_BARS}")
    return int(text)


def _parse_gib(variable: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise InvalidSetting(f"{variable}={text!r} is no size: expected GiB, 0 or more, such as 2")
    return value


def _is_web_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    spaced = any(character.isspace() for character in text)  # which the parser lets pass
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0 and not spaced


def _parse_hosts(text: str) -> tuple[str, ...]:
    """Return the URLs of a comma-separated list, each once."""
    return tuple(dict.fromkeys(url.strip().rstrip("/") for url in text.split(",")))


def _with_fallback(urls: tuple[str, ...]) -> tuple[str, ...]:
    """Return the hosts of the exchange, and the fallback of a lone one."""
    if len(urls) == 1 and urls[0] in BYBIT_FALLBACKS:
        return (*urls, BYBIT_FALLBACKS[urls[0]])
    return urls


def _parse_tickers(text: str) -> tuple[tuple[str, str], ...]:
    """Return symbols and tickers of `SPX=^GSPC,EURUSD=EURUSD=X`; a ticker may hold a `=` too."""
    if not text.strip():
        return ()
    parts = (entry.strip().partition("=") for entry in text.split(","))
    return tuple((symbol.strip(), ticker.strip()) for symbol, _, ticker in parts)


def _parse_home(text: str) -> Path:
    try:
        return Path(text).expanduser().resolve()
    except RuntimeError as error:  # `~name` of a user that this machine does not have
        raise InvalidSetting(f"FLASH_PIPELINE_HOME={text!r} is no folder: {error}") from error


def gpu_trouble_choice(environ: Mapping[str, str] | None = None) -> str:
    """Return what FLASH_PIPELINE_ON_GPU_TROUBLE says, or its default, whatever else is set.

    For a model in a program of its own, which has nothing to do with the pipeline's other settings.
    """
    values = os.environ if environ is None else environ
    return values.get("FLASH_PIPELINE_ON_GPU_TROUBLE") or "fail"


def redacted(uri: str) -> str:
    """Return a text without the users, passwords and tokens that URIs in it may carry.

    Examples
    --------
    >>> redacted("postgresql://me:secret@host/mlflow")
    'postgresql://***@host/mlflow'
    """
    without_user = re.sub(r"(?<=://)[^/\s?#][^\s?#]*@", "***@", uri)
    return re.sub(r"(?i)([?&](?:password|passwd|pwd|token|secret)=)[^&\s]*", r"\1***", without_user)


def error_line(error: Exception) -> str:
    r"""Return what an error of any library says as one line without secrets.

    Examples
    --------
    >>> error_line(OSError("cut off:\n  postgresql://me:secret@host/x"))
    'OSError: cut off: postgresql://***@host/x'
    """
    return redacted(" ".join(f"{type(error).__name__}: {error}".split()))


def _default_home() -> Path:
    """Return `data/` of the project, or of the current folder for an installed package."""
    project = Path(__file__).resolve().parent.parent
    return (project if (project / "pyproject.toml").is_file() else Path.cwd()) / "data"
