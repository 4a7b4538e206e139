"""What the assets are given: the configuration of a run, and the sources of candles."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import dagster as dg
from pydantic import Field

from flash_pipeline.errors import InvalidTimeRange, TransientExchangeError
from flash_pipeline.exchange import embedded_exchange
from flash_pipeline.exchange.opening import open_market
from flash_pipeline.ingest import SourceRouter, open_sources
from flash_pipeline.market import MARK_CANDLE_SCHEMA, Month
from flash_pipeline.settings import Settings
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.storage.lock import HomeClaim, claim_home
from flash_pipeline.training.recipes import Recipe, get_recipe

_PATIENCE_S = 600.0
"""How long a run waits for another one on the same home, such as one of the command line."""


class PipelineResource(dg.ConfigurableResource):
    """The recipe of a run, its defaults overridden where a field is given."""

    recipe: str | None = Field(
        default=None,
        description="auto, demo, seed or full; by default what FLASH_PIPELINE_RECIPE says.",
    )
    symbols: list[str] | None = Field(
        default=None, description="Linear perpetuals such as BTCUSDT, in the tensors' order."
    )
    interval: str | None = Field(
        default=None, description="Candle interval by Bybit's code: 1 3 5 15 30 60 ... 720 D."
    )
    lookback: int | None = Field(default=None, description="Bars of a window, at least 1.")
    horizon: int | None = Field(default=None, description="Bars ahead predicted, at least 1.")
    months: int | None = Field(
        default=None, description="Calendar months of history, the newest included, at least 1."
    )
    start_month: str | None = Field(
        default=None, description="First month of the windows, YYYY-MM, in place of `months`."
    )
    end_month: str | None = Field(
        default=None, description="Last month of the windows, YYYY-MM; by default the newest."
    )
    stride: int | None = Field(
        default=None,
        description="Windows in a stored block, 1 to lookback; by default lookback. 1 stores "
        "every bar `lookback` times.",
    )
    head: str | None = Field(
        default=None, description="regression, direction, allocation or quantile."
    )
    attention: str | None = Field(
        default=None,
        description="Attention backend: auto, or one by name such as flash_attn or sdpa.",
    )
    n_layers: int | None = Field(default=None, description="Transformer blocks, at least 1.")
    epochs: int | None = Field(
        default=None, description="Passes over the training windows, cold or warm, at least 1."
    )

    seeds: int | None = Field(
        default=None,
        description="Members of an ensemble, at least 1: models from different seeds whose "
        "predictions are averaged.",
    )

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["PipelineResource"]:
        """Hold the home while a run is executed; a schedule's evaluation needs no hold of it."""
        if context.run is None or context.instance is None:
            yield self
            return
        with claim_home(self.settings().home, wait_s=_PATIENCE_S) as claim:
            bury_killed_run(context.instance, claim)
            claim.name_run(context.run.run_id)
            yield self

    def settings(self) -> Settings:
        """Read the process's settings and prove that the home can be written."""
        settings = Settings.from_environment()
        settings.require_home()
        return settings

    def resolve(self) -> Recipe:
        """Return the recipe with this run's overrides, checked.

        Raises
        ------
        InvalidInput
            Naming the first value that cannot be used.
        """
        recipe = get_recipe(self.recipe or Settings.from_environment().recipe)
        data = {
            "symbols": tuple(self.symbols) if self.symbols is not None else None,
            "interval": self.interval,
            "lookback": self.lookback,
            "horizon": self.horizon,
            "months": self.months,
        }
        model = {"head": self.head, "attention": self.attention, "n_layers": self.n_layers}
        train = {"epochs": self.epochs, "warm_epochs": self.epochs, "seeds": self.seeds}
        recipe = recipe.with_data(**{k: v for k, v in data.items() if v is not None})
        recipe = recipe.with_model(**{k: v for k, v in model.items() if v is not None})
        return recipe.with_training(**{k: v for k, v in train.items() if v is not None})

    def store(self, settings: Settings) -> KlineStore:
        """Return the candle files of the run's interval."""
        return KlineStore(settings.klines, self.resolve().interval)

    def mark_store(self, settings: Settings) -> KlineStore:
        """Return the candle files of the mark price, of the run's interval."""
        return KlineStore(settings.mark_klines, self.resolve().interval, MARK_CANDLE_SCHEMA)

    def window_months(self, newest: Month) -> tuple[Month, Month]:
        """Return the first and last month that windows are cut from.

        Parameters
        ----------
        newest : Month
            Month of the newest stored bar.
        """
        last = Month.parse(self.end_month) if self.end_month is not None else newest
        if self.start_month is None:
            return last.shift(1 - self.resolve().data.months), last
        first = Month.parse(self.start_month)
        if first > last:
            raise InvalidTimeRange(f"start_month {first} comes after the last month, {last}")
        return first, last


def bury_killed_run(instance: dg.DagsterInstance, claim: HomeClaim) -> None:
    """Mark the last run on a claimed home failed if it never finished, and free its pools.

    Dagster's own monitoring ends such a run after its time limit only, and not at all for a run
    of the command line.
    """
    last = claim.last_run()
    run = instance.get_run_by_id(last) if last is not None else None
    if run is not None and not run.is_finished:
        instance.report_run_failed(run, "the process that executed this run was killed")
    for run_id in instance.event_log_storage.get_concurrency_run_ids():
        holding = instance.get_run_by_id(run_id)
        if holding is None or holding.is_finished:
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)


class ExchangeResource(dg.ConfigurableResource):
    """The sources of the settings: real ones, or the embedded exchange started for the block."""

    step_retries: int = Field(
        default=2, description="Further tries of an asset when the exchange is away, 0 or more."
    )
    retry_delay_s: float = Field(default=30.0, description="Seconds before such a try.")

    @contextmanager
    def sources(self, settings: Settings, instruments: int | None = None) -> Iterator[SourceRouter]:
        """Yield the sources of candles; an embedded exchange lives as long as they do.

        The clients themselves try a call that fails for a transient reason again within seconds.
        An exchange that is away for longer fails the block; the step is then tried again after a
        while. Any other error is final: no try would mend it.

        Parameters
        ----------
        instruments : int or None
            That an embedded exchange lists, 16 to 600; None for the fewest.
        """
        try:
            with (
                self._exchange(settings, instruments) as url,
                open_sources(settings, url) as sources,
            ):
                yield sources
        except TransientExchangeError as error:
            raise dg.RetryRequested(self.step_retries, self.retry_delay_s) from error

    @staticmethod
    def _exchange(
        settings: Settings, instruments: int | None
    ) -> AbstractContextManager[str | None]:
        if settings.bybit_urls:
            return nullcontext()
        return embedded_exchange(market=open_market(instruments=instruments))
