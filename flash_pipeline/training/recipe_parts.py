"""What a recipe says of its data and its training. Free of torch, as recipes are."""

from dataclasses import dataclass
from typing import Literal, get_args

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.market import Interval, parse_symbols
from flash_pipeline.training.scaler import FeatureScaling
from flash_pipeline.training.targets import TargetScaling

DEFAULT_SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT")
"""The chapter's five linear perpetuals."""


CompileChoice = Literal["auto"] | bool
"""`auto`: steps are compiled and captured where there are enough of them to repay it."""


@dataclass(frozen=True)
class DataConfig:
    """Which candles become which windows."""

    symbols: tuple[str, ...] = DEFAULT_SYMBOLS
    """Linear perpetuals, in the order of the tensors' symbol axis."""
    interval: str = Interval.HOUR_1.value
    """Candle interval by the exchange's code."""
    lookback: int = 2048
    """Bars of a window, at least 1."""
    horizon: int = 24
    """Bars ahead that is predicted, at least 1."""
    months: int = 12
    """Calendar months of history, the current one included, at least 1."""

    def __post_init__(self) -> None:
        parse_symbols(self.symbols)
        Interval.parse(self.interval)
        _require_at_least(1, lookback=self.lookback, horizon=self.horizon, months=self.months)


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained."""

    epochs: int
    """Passes over the training windows from random weights, at least 1."""
    warm_epochs: int
    """Passes when the weights of the champion are the start, at least 1."""
    batch_size: int
    """Windows in a step, at least 1."""
    learning_rate: float = 1e-4
    """Peak of the cosine schedule, above 0."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay, 0 or more."""
    clip_norm: float = 1.0
    """Largest gradient norm, above 0."""
    windows_per_epoch: int | None = None
    """Training windows drawn for one pass, at least 1; None for all of them."""
    accumulation: int = 1
    """Micro-batches that a step goes through one by one, at least 1, a divisor of `batch_size`:
    the gradient of the whole batch in the memory of a part. Not with an allocation head."""
    ema_decay: float | None = None
    """Decay of the moving average of the weights that is validated and kept, between 0 and 1; it
    spans about 1 / (1 - decay) steps. None keeps the weights themselves."""
    activation_checkpointing: bool = False
    """Whether layers are computed again in the backward pass: less memory, a third more work."""
    compile: CompileChoice = "auto"
    """Whether the step is compiled and captured as a CUDA graph, where it can be: on a GPU, with a
    fused attention kernel and no masked bar. `auto` does so for a training of 1,500 steps or more,
    which repays the compiler's seconds; True for any. Eager otherwise."""
    deterministic: bool = False
    """Whether a GPU may only use algorithms that give the same bits each time, as a CPU does."""
    checkpoint_minutes: float = 5.0
    """Time between the checkpoints that a killed training resumes from, 0 or more: at most so much
    work is lost. 0 writes one after every epoch."""
    feature_scaling: FeatureScaling = "standard"
    """How inputs are scaled: `standard` (mean and deviation) or `robust` (median and quartiles)."""
    target_scaling: TargetScaling = "rms"
    """How labels are scaled: by their `rms` over the training range, or by the `volatility` of the
    moment; an allocation head is taught in plain returns in any case."""
    seed: int = 58
    """Of weights, dropout and the order of windows, 0 or more."""
    seeds: int = 1
    """Members of an ensemble, at least 1, each trained from the next seed; a prediction is their
    mean. The time of a training grows with it."""

    def __post_init__(self) -> None:
        _require_at_least(
            1,
            epochs=self.epochs,
            warm_epochs=self.warm_epochs,
            batch_size=self.batch_size,
            accumulation=self.accumulation,
            seeds=self.seeds,
        )
        _require_at_least(0, seed=self.seed)
        if self.windows_per_epoch is not None:
            _require_at_least(1, windows_per_epoch=self.windows_per_epoch)
        for name in ("learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise InvalidConfig(f"{name} is {getattr(self, name)!r}: expected a number above 0")
        for name in ("weight_decay", "checkpoint_minutes"):
            if not getattr(self, name) >= 0:
                raise InvalidConfig(f"{name} is {getattr(self, name)!r}: expected 0 or more")
        if self.batch_size % self.accumulation:
            raise InvalidConfig(
                f"accumulation is {self.accumulation}: expected a divisor of the batch size, "
                f"{self.batch_size}"
            )
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise InvalidConfig(
                f"ema_decay is {self.ema_decay!r}: expected a number between 0 and 1, or None"
            )
        self._check_switches()

    def _check_switches(self) -> None:
        for name in ("activation_checkpointing", "deterministic"):
            _require_choice(name, getattr(self, name), (True, False))
        _require_choice("compile", self.compile, ("auto", True, False))
        _require_choice("feature_scaling", self.feature_scaling, get_args(FeatureScaling))
        _require_choice("target_scaling", self.target_scaling, get_args(TargetScaling))


def _require_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if not isinstance(value, bool | str) or value not in choices:  # 1 is True elsewhere
        expected = " ".join(str(choice) for choice in choices)
        raise InvalidConfig(f"{name} is {value!r}: expected one of {expected}")


def _require_at_least(least: int, **values: object) -> None:
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InvalidConfig(f"{name} is {value!r}: expected an integer of at least {least}")
