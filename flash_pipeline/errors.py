"""Every error that this package raises on purpose.

    FlashPipelineError
    ├── InvalidInput            a value given by the caller cannot be used (a ValueError as well)
    │   ├── InvalidSymbol       not of the form ^[A-Z0-9]{2,20}$
    │   ├── InvalidInterval     not one of the exchange's candle intervals
    │   ├── InvalidTimeRange    a time, month or range that is malformed, reversed or in the future
    │   ├── InvalidSetting      an environment variable with an unusable value
    │   ├── InvalidConfig       a model, training or cost parameter out of its bounds
    │   ├── SourceUnsupported   a source of candles has no such interval or form of symbol
    │   └── UnknownRecipe       no recipe of that name
    ├── ExchangeError           the exchange did not give what was asked
    │   ├── TransientExchangeError     worth another try: the client retries these
    │   │   ├── ExchangeUnreachable    no connection, or no answer in time
    │   │   ├── RateLimited            HTTP 429, or code 10006
    │   │   ├── ExchangeFault          HTTP 5xx, codes 10000 and 10016, no JSON, or far too much
    │   │   └── InconsistentAnswer     an answer that contradicts the request or itself
    │   └── TerminalExchangeError      another try gives the same answer
    │       ├── RequestRejected        code 10001 and its like, HTTP 4xx
    │       ├── UnknownSymbol          the exchange lists no such instrument
    │       ├── AccessDenied           HTTP 403
    │       │   ├── AccessTooFrequent  banned for its request rate: every call stops for a while
    │       │   └── CountryBlocked     the host serves no client of this country
    │       ├── CircuitOpen            refused here, without a request, until such a ban is over
    │       └── MalformedAnswer        JSON of another shape than documented
    ├── DataError               stored or fetched data cannot serve the purpose
    │   ├── EmptyMonth          no closed candle of any symbol in a month that has passed
    │   ├── NotEnoughHistory    fewer bars than one training window and its label need
    │   └── SchemaMismatch      a stored file or table has other columns than the contract
    │       └── FileDamaged     a stored file cannot be read at all, as one that was cut off
    ├── ModelError
    │   ├── AttentionUnsupported    the chosen backend cannot honour the call
    │   ├── TrainingDiverged        the loss became NaN or infinite
    │   ├── OutOfMemory             the accelerator's memory does not hold a step or a pass
    │   └── BundleMismatch          a stored model does not fit the data or the code at hand
    ├── RunFailed               a run of the graph did not reach its end; the first failure's words
    └── StorageError            the home folder, the warehouse or the registry cannot be used
        ├── HomeNotWritable     nothing can be written below FLASH_PIPELINE_HOME
        ├── HomeBusy            another run is active on the home
        ├── WarehouseLocked     another process holds the DuckDB file for too long
        ├── WarehouseUnusable   the DuckDB file cannot be opened, as one that was cut off
        ├── TrackingUnreachable MLflow does not answer at MLFLOW_TRACKING_URI
        └── ModelNotRegistered  no such model, version or alias in the registry

Messages name the bad value and what was expected. Errors of the exchange carry `symbol`,
`status` and `code` where these are known; those of a ban carry `until` as well.
"""


class FlashPipelineError(Exception):
    """Root of the tree: catching it catches every error raised on purpose."""


class InvalidInput(FlashPipelineError, ValueError):
    """A value given by the caller cannot be used."""


class InvalidSymbol(InvalidInput):
    """A symbol that is not of the form `^[A-Z0-9]{2,20}$`."""


class InvalidInterval(InvalidInput):
    """A candle interval that the exchange does not offer or that has no fixed length."""


class InvalidTimeRange(InvalidInput):
    """A time, month or range that is malformed, reversed, off the grid or in the future."""


class InvalidSetting(InvalidInput):
    """An environment variable with an unusable value."""


class InvalidConfig(InvalidInput):
    """A model, training or cost parameter out of its bounds."""


class SourceUnsupported(InvalidInput):
    """A source of candles has no such interval or form of symbol."""


class UnknownRecipe(InvalidInput):
    """No recipe of that name."""


class ExchangeError(FlashPipelineError):
    """The exchange did not give what was asked.

    Parameters
    ----------
    message : str
        What went wrong, with the bad value.
    symbol : str or None
        Instrument asked for, where there was one.
    status : int or None
        HTTP status of the answer, where one came.
    code : int or None
        `retCode` of the answer, where it had one.
    """

    def __init__(
        self,
        message: str,
        *,
        symbol: str | None = None,
        status: int | None = None,
        code: int | None = None,
    ) -> None:
        super().__init__(message)
        self.symbol = symbol
        self.status = status
        self.code = code


class TransientExchangeError(ExchangeError):
    """Worth another try: the client retries these with a growing pause."""


class ExchangeUnreachable(TransientExchangeError):
    """No connection, or no answer in time."""


class RateLimited(TransientExchangeError):
    """HTTP 429 or code 10006."""


class ExchangeFault(TransientExchangeError):
    """HTTP 5xx, codes 10000 and 10016, an answer that is no JSON, or one far too large."""


class InconsistentAnswer(TransientExchangeError):
    """An answer that contradicts the request or itself.

    Another symbol, rows outside the window asked for, or two versions of one candle.
    """


class TerminalExchangeError(ExchangeError):
    """Another try gives the same answer."""


class RequestRejected(TerminalExchangeError):
    """Code 10001 and its like, or HTTP 4xx."""


class UnknownSymbol(TerminalExchangeError):
    """The exchange lists no such instrument."""


class AccessDenied(TerminalExchangeError):
    """HTTP 403: banned for its request rate, blocked by country, or for a reason unknown."""


class AccessTooFrequent(AccessDenied):
    """HTTP 403 for too many requests: every call stops for a while.

    Parameters
    ----------
    until : int or None
        When calls are allowed again, ms since the epoch; None before the transport set it.
    """

    def __init__(
        self,
        message: str,
        *,
        symbol: str | None = None,
        status: int | None = None,
        code: int | None = None,
        until: int | None = None,
    ) -> None:
        super().__init__(message, symbol=symbol, status=status, code=code)
        self.until = until


class CountryBlocked(AccessDenied):
    """HTTP 403 with a page that says that the host serves no client of this country."""


class CircuitOpen(TerminalExchangeError):
    """No request is sent until a ban for the request rate is over.

    Parameters
    ----------
    until : int
        When calls are allowed again, ms since the epoch.
    """

    def __init__(self, message: str, *, until: int, symbol: str | None = None) -> None:
        super().__init__(message, symbol=symbol)
        self.until = until


class MalformedAnswer(TerminalExchangeError):
    """JSON of another shape than documented."""


class DataError(FlashPipelineError):
    """Stored or fetched data cannot serve the purpose."""


class EmptyMonth(DataError):
    """No closed candle of any symbol in a month that has passed."""


class NotEnoughHistory(DataError):
    """Fewer bars than one training window and its label need."""


class SchemaMismatch(DataError):
    """A stored file or table has other columns than the contract."""


class FileDamaged(SchemaMismatch):
    """A stored file that cannot be read at all, as one that was cut off."""


class ModelError(FlashPipelineError):
    """A model cannot be built, trained or used as asked."""


class AttentionUnsupported(ModelError):
    """The chosen attention backend cannot honour the call."""


class TrainingDiverged(ModelError):
    """The loss became NaN or infinite."""


class OutOfMemory(ModelError):
    """The accelerator's memory does not hold a step or a pass; the message says what it was."""


class BundleMismatch(ModelError):
    """A stored model does not fit the data or the code at hand."""


class RunFailed(FlashPipelineError):
    """A run of the graph did not reach its end; the message is that of its first failure."""


class StorageError(FlashPipelineError):
    """The home folder, the warehouse or the registry cannot be used."""


class HomeNotWritable(StorageError):
    """Nothing can be written below `FLASH_PIPELINE_HOME`."""


class HomeBusy(StorageError):
    """Another run is active on the home."""


class WarehouseLocked(StorageError):
    """Another process holds the DuckDB file for too long."""


class WarehouseUnusable(StorageError):
    """The DuckDB file cannot be opened: damaged, of another version, or without the right to."""


class TrackingUnreachable(StorageError):
    """MLflow does not answer at `MLFLOW_TRACKING_URI`."""


class ModelNotRegistered(StorageError):
    """No such model, version or alias in the registry."""
