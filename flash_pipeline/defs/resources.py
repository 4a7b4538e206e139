"""What the assets are given: the configuration of a run, and the sources of candles."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import dagster as dg
from pydantic import Field, ValidationError, field_validator

from flash_pipeline.defs.choices import AttentionChoice, HeadChoice, IntervalChoice, RecipeChoice
from flash_pipeline.defs.config import check_configs, words_of
from flash_pipeline.errors import InvalidConfig, InvalidTimeRange, TransientExchangeError
from flash_pipeline.exchange import embedded_exchange
from flash_pipeline.exchange.opening import open_market
from flash_pipeline.ingest import SourceRouter, open_sources
from flash_pipeline.market import MARK_CANDLE_SCHEMA, Month, parse_symbols
from flash_pipeline.settings import Settings
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.storage.lock import HomeClaim, claim_home
from flash_pipeline.training.recipes import Recipe, get_recipe

_PATIENCE_S = 600.0
"""How long a run waits for another one on the same home, such as one of the command line."""

_DATA_FIELDS = ("symbols", "interval", "lookback", "horizon", "months")
_MODEL_FIELDS = ("head", "attention", "n_layers")


class PipelineResource(dg.ConfigurableResource):
    """The recipe of a run, its defaults overridden where a field is given."""

    recipe: RecipeChoice | None = Field(
        default=None,
        description="auto, demo, seed or full; by default what FLASH_PIPELINE_RECIPE says.",
    )
    symbols: list[str] | None = Field(
        default=None,
        description="Linear perpetuals such as BTCUSDT, each once, in the tensors' order.",
    )
    interval: IntervalChoice | None = Field(
        default=None,
        description="Candle interval by Bybit's code: minutes in quotes, such as '60', or D.",
    )
    lookback: int | None = Field(default=None, ge=1, description="Bars of a window, at least 1.")
    horizon: int | None = Field(default=None, ge=1, description="Bars ahead predicted, at least 1.")
    months: int | None = Field(
        default=None,
        ge=1,
        description="Calendar months of history, the newest included, at least 1.",
    )
    start_month: str | None = Field(
        default=None, description="First month of the windows, YYYY-MM, in place of `months`."
    )
    end_month: str | None = Field(
        default=None, description="Last month of the windows, YYYY-MM; by default the newest."
    )
    stride: int | None = Field(
        default=None,
        ge=1,
        description="Windows in a stored block, 1 to lookback; by default lookback. 1 stores "
        "every bar `lookback` times.",
    )
    head: HeadChoice | None = Field(
        default=None, description="regression, direction, allocation or quantile."
    )
    attention: AttentionChoice | None = Field(
        default=None,
        description="Attention backend: auto, or one by name such as flash_attn or sdpa.",
    )
    n_layers: int | None = Field(default=None, ge=1, description="Transformer blocks, at least 1.")
    epochs: int | None = Field(
        default=None,
        ge=1,
        description="Passes over the training windows, cold or warm, at least 1.",
    )

    seeds: int | None = Field(
        default=None,
        ge=1,
        description="Members of an ensemble, at least 1: models from different seeds whose "
        "predictions are averaged.",
    )

    @field_validator("symbols")
    @classmethod
    def _are_symbols(cls, names: list[str] | None) -> list[str] | None:
        return names if names is None else list(parse_symbols(names))

    @field_validator("start_month", "end_month")
    @classmethod
    def _is_month(cls, text: str | None) -> str | None:
        return text if text is None else str(Month.parse(text))

    @classmethod
    def checked(cls, **given: Any) -> "PipelineResource":  # noqa: ANN401  (the fields)
        """Return the resource with the fields that are given, each of which may be None.

        Raises
        ------
        InvalidConfig
            With the field, its value and what was expected.
        """
        try:
            return cls(**given)
        except ValidationError as error:
            raise InvalidConfig(words_of(error)) from error

    def given(self) -> dict[str, Any]:
        """Return the fields that are not None, as a run's configuration takes them."""
        return self.model_dump(mode="json", exclude_none=True)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["PipelineResource"]:
        """Hold the home while a run is executed; a schedule's evaluation needs no hold of it."""
        if context.run is None or context.instance is None:
            yield self
            return
        check_configs(context.run.run_config)
        self.resolve()
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
        plain = self.given()
        recipe = get_recipe(plain.get("recipe") or Settings.from_environment().recipe)
        data = {k: plain[k] for k in _DATA_FIELDS if k in plain}
        model = {k: plain[k] for k in _MODEL_FIELDS if k in plain}
        if "symbols" in data:
            data["symbols"] = tuple(data["symbols"])
        train = {"epochs": self.epochs, "warm_epochs": self.epochs, "seeds": self.seeds}
        recipe = recipe.with_data(**data).with_model(**model)
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
        default=2,
        ge=0,
        description="Further tries of an asset when the exchange is away, 0 or more.",
    )
    retry_delay_s: float = Field(
        default=30.0,
        ge=0,
        description="Seconds before the first such try, give or take as many; later ones are "
        "three times as long after one another.",
    )

    @contextmanager
    def sources(self, settings: Settings, instruments: int | None = None) -> Iterator[SourceRouter]:
        """Yield the sources of candles; an embedded exchange lives as long as they do.

        An exchange that is away has the step tried again: see `tried_again`.

        Parameters
        ----------
        instruments : int or None
            That an embedded exchange lists, 16 to 600; None for the fewest.
        """
        with (
            self.tried_again(),
            self._exchange(settings, instruments) as url,
            open_sources(settings, url) as sources,
        ):
            yield sources

    @contextmanager
    def tried_again(self) -> Iterator[None]:
        """Have the step tried again after a while where the block fails for a transient reason.

        The clients themselves try such a call again within seconds: what is away for longer fails
        the block. Any other error is final: no try would mend it.
        """
        try:
            yield
        except TransientExchangeError as error:
            policy = self.retry_policy()
            tries = dg.AssetExecutionContext.get().op_execution_context.retry_number + 1
            raise dg.RetryRequested(policy.max_retries, policy.calculate_delay(tries)) from error

    def retry_policy(self) -> dg.RetryPolicy:
        """Return how often and how long after one another an asset is tried.

        Not a policy of the asset, which would retry any error. Each delay is about three times
        the one before, and random, so that not all machines come back at once.
        """
        return dg.RetryPolicy(
            max_retries=self.step_retries,
            delay=self.retry_delay_s,
            backoff=dg.Backoff.EXPONENTIAL,
            jitter=dg.Jitter.PLUS_MINUS,
        )

    @staticmethod
    def _exchange(
        settings: Settings, instruments: int | None
    ) -> AbstractContextManager[str | None]:
        if settings.bybit_urls:
            return nullcontext()
        return embedded_exchange(market=open_market(instruments=instruments))
