"""Which source a symbol's candles come from: Yahoo for those that the settings name, else Bybit."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from flash_pipeline.bybit import BybitClient
from flash_pipeline.errors import SchemaMismatch
from flash_pipeline.market import MarketSource, parse_symbols
from flash_pipeline.settings import Settings
from flash_pipeline.yahoo import YahooClient


@dataclass(frozen=True)
class SourceRouter:
    """The sources of a run, and who of them has which symbol.

    Candles of one panel come from several sources; instruments, funding, mark prices and tickers
    are the exchange's alone. Of a symbol of Yahoo's they are absent, never made up: ask for those
    of `bybit_symbols`.
    """

    bybit: BybitClient
    """The exchange: every symbol that is nobody else's."""
    yahoo: YahooClient | None = None
    """None where no symbol is Yahoo's."""
    tickers: Mapping[str, str] = field(default_factory=dict)
    """Yahoo's tickers by symbol."""

    def source(self, symbol: str) -> MarketSource:
        """Return where a symbol's candles come from."""
        if self.yahoo is not None and symbol in self.tickers:
            return self.yahoo
        return self.bybit

    def groups(self, symbols: Sequence[str]) -> tuple[tuple[MarketSource, tuple[str, ...]], ...]:
        """Return each source that is needed with its symbols, in the order of the symbols.

        Raises
        ------
        InvalidSymbol
            If a symbol is malformed or given twice, or if there is none.
        SchemaMismatch
            As of `is_synthetic`.
        """
        groups: dict[str, tuple[MarketSource, list[str]]] = {}
        for symbol in parse_symbols(symbols):
            source = self.source(symbol)
            groups.setdefault(source.name, (source, []))[1].append(symbol)
        if len(groups) > 1:  # asking costs a request, and one source is of one kind
            _require_one_kind([source for source, _ in groups.values()])
        return tuple((source, tuple(names)) for source, names in groups.values())

    def bybit_symbols(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """Return those of the symbols that the exchange lists, in their order; maybe none."""
        return tuple(symbol for symbol in symbols if self.source(symbol) is self.bybit)

    def is_synthetic(self, symbols: Sequence[str]) -> bool:
        """Say whether a simulator makes the candles of the symbols.

        Raises
        ------
        SchemaMismatch
            If it makes those of some and not those of others: they cannot share a home.
        """
        return _require_one_kind([source for source, _ in self.groups(symbols)])

    def now(self) -> int:
        """Return the exchange's clock, ms since the epoch, UTC: the one that months go by."""
        return self.bybit.now()


@contextmanager
def open_sources(settings: Settings, embedded_url: str | None = None) -> Iterator[SourceRouter]:
    """Open the sources of the settings for the length of the block.

    Parameters
    ----------
    settings : Settings
        Names hosts and tickers.
    embedded_url : str or None
        Base URL of the embedded exchange, which serves both Bybit's API and Yahoo's: asked where
        the settings name no host.

    Raises
    ------
    ValueError
        If the settings name no host of a source and there is no embedded exchange.
    """
    embedded = () if embedded_url is None else (embedded_url,)
    tickers = dict(settings.yahoo_tickers)
    with ExitStack() as stack:
        bybit = stack.enter_context(
            BybitClient(settings.bybit_urls or embedded, circuit_file=settings.bybit_circuit)
        )
        yahoo = None
        if tickers:
            yahoo = stack.enter_context(YahooClient(settings.yahoo_urls or embedded, tickers))
        yield SourceRouter(bybit, yahoo, tickers)


def _require_one_kind(sources: Sequence[MarketSource]) -> bool:
    kinds = {source.is_synthetic(): source.name for source in sources}
    if len(kinds) > 1:
        raise SchemaMismatch(
            f"{kinds[True]} serves simulated candles and {kinds[False]} real ones, which never "
            "mix in one home: set FLASH_PIPELINE_BYBIT_URL and FLASH_PIPELINE_YAHOO_URL to real "
            "hosts, or neither"
        )
    return next(iter(kinds))
