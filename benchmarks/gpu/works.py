"""What is timed: attention calls, training steps, and the models and data they need.

Shape letters: B batch rows, T bars, H heads, D head size, I inputs per bar, S symbols.
"""

import dataclasses
import itertools
import math
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench, Measured, Row, Work
from benchmarks.gpu.flops import step_flops
from flash_pipeline.features import FEATURE_NAMES
from flash_pipeline.market import Interval
from flash_pipeline.model.attention import attend
from flash_pipeline.model.config import ModelConfig, SpanName
from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training.ema import WeightAverage
from flash_pipeline.training.optimizer import make_optimizer
from flash_pipeline.training.recipes import DEFAULT_SYMBOLS, TrainConfig, full_recipe
from flash_pipeline.training.step import make_step
from flash_pipeline.windows import Panel, WindowFrame, write_windows
from flash_pipeline.windows.dataset import WindowBatches

Phase = Literal["forward", "backward", "both"]
"""Which half of an attention call is timed."""

Form = Literal["eager", "own", "captured"]
"""How a step runs: a plain loop; or as `training.step.make_step` has it, eager or captured."""

STANDARD = "standard"
"""Softmax attention in PyTorch as the chapter writes it, in the operands' dtype."""

PROJECT, RECIPE = "project's form", "recipe `full`"
"""Names of what is measured: a form at any size, and one recipe exactly."""

SEED = 58
HORIZON = 24

_DRAWS = 16  # batches of different windows that a captured step goes through in turn

_FIRST_MS = 1_688_169_600_000  # 2023-07-01T00:00Z
_CHAPTER: dict[str, Any] = {"d_model": 256, "n_heads": 8, "n_layers": 6, "d_ff": 1024}
_SMALL: dict[str, Any] = {"d_model": 64, "n_heads": 2, "n_layers": 2, "d_ff": 128}
_TINY: dict[str, Any] = {"d_model": 16, "n_heads": 2, "n_layers": 1, "d_ff": 16}


def standard_attention(
    q_BTHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor, span: SpanName, window: int | None
) -> Tensor:
    """Return softmax(q kᵀ / sqrt(D)) v with the T x T matrix in memory, in the dtype given."""
    q_BHTD, k_BHTD, v_BHTD = (x.transpose(1, 2) for x in (q_BTHD, k_BTHD, v_BTHD))
    scores_BHTT = q_BHTD @ k_BHTD.transpose(-2, -1) / math.sqrt(q_BTHD.shape[-1])
    if span != "full":
        n_bars = q_BTHD.shape[1]
        hidden_TT = torch.ones(n_bars, n_bars, dtype=torch.bool, device=q_BTHD.device).triu(1)
        if window is not None:
            hidden_TT |= ~hidden_TT.new_ones(n_bars, n_bars).triu(1 - window)
        scores_BHTT = scores_BHTT.masked_fill(hidden_TT, -math.inf)
    o_BHTD = scores_BHTT.softmax(-1) @ v_BHTD
    return o_BHTD.transpose(1, 2)


@dataclasses.dataclass(frozen=True)
class Attention:
    """One attention call."""

    batch: int
    """Rows."""
    length: int
    """Bars."""
    n_heads: int
    """Heads."""
    head_size: int
    """Width of a head."""
    span: SpanName = "full"
    """Which keys a query sees."""
    window: int | None = None
    """Bars seen under `sliding`."""

    def work(self, bench: Bench, backend: str, phase: Phase) -> Work:
        """Return a call that runs it on random operands."""
        torch.manual_seed(SEED)
        shape = (self.batch, self.length, self.n_heads, self.head_size)
        operands = [
            torch.randn(shape, device=bench.device, dtype=bench.dtype, requires_grad=True)
            for _ in range(3)
        ]
        pull_BTHD = torch.randn(shape, device=bench.device, dtype=bench.dtype)

        def forward() -> Tensor:
            return self._call(operands, backend)

        def differentiate(o_BTHD: Tensor, keep: bool) -> object:
            return torch.autograd.grad(o_BTHD, operands, pull_BTHD, retain_graph=keep)

        if phase == "forward":
            return forward
        if phase == "both":
            return lambda: differentiate(forward(), False)
        once_BTHD = forward()
        return lambda: differentiate(once_BTHD, True)

    def _call(self, operands: list[Tensor], backend: str) -> Tensor:
        q_BTHD, k_BTHD, v_BTHD = operands
        if backend == STANDARD:
            return standard_attention(q_BTHD, k_BTHD, v_BTHD, self.span, self.window)
        causal = self.span != "full"
        named: Any = backend
        return attend(q_BTHD, k_BTHD, v_BTHD, causal=causal, window=self.window, backend=named)


def described(config: ModelConfig, **changes: object) -> str:
    """Return a configuration in a line, with some values put in words."""
    values = config.to_dict() | changes
    return ", ".join(f"{k} {v}" for k, v in values.items() if k != "head_options")


def chapter_config(bench: Bench, length: int, **changes: Any) -> ModelConfig:  # noqa: ANN401
    """Return the chapter's model: full attention, learned positions, one target per window."""
    return dataclasses.replace(_config(bench, length, _CHAPTER), **({"dropout": 0.1} | changes))


def recipe_config(bench: Bench, length: int, **changes: Any) -> ModelConfig:  # noqa: ANN401
    """Return the form that the project trains: causal, rotary, a target at every bar."""
    model = full_recipe().model
    sizes = {name: getattr(model, name) for name in _CHAPTER}
    plain = _config(bench, length, sizes)
    form: dict[str, Any] = {
        "span": "causal",
        "positions": "rotary",
        "supervision": "dense",
        "dropout": 0.0,
    }
    return dataclasses.replace(plain, **(form | changes))


def full_config(bench: Bench, length: int) -> ModelConfig:
    """Return the model of the recipe `full`; at other scales one of its form."""
    own = recipe_config(bench, length)
    window = (length - 1) // own.n_layers + 1
    small = dataclasses.replace(own, span="sliding", window=window)
    return bench.pick(full_recipe().model, small, small)


def synthetic_panel(bars: int) -> Panel:
    """Return a random panel: five symbols, the catalog's features, hourly."""
    rng = np.random.default_rng(SEED)
    shape = (bars, len(DEFAULT_SYMBOLS), len(FEATURE_NAMES))
    walk_TS = np.cumsum(rng.normal(0, 0.01, shape[:2]), axis=0)
    return Panel(
        DEFAULT_SYMBOLS,
        FEATURE_NAMES,
        Interval.HOUR_1,
        _FIRST_MS + Interval.HOUR_1.milliseconds * np.arange(bars, dtype=np.int64),
        rng.standard_normal(shape, dtype=np.float32),
        100 * np.exp(walk_TS),
    )


def synthetic_frame(length: int, windows: int) -> WindowFrame:
    """Return stored windows of a random panel, at least as many as asked for."""
    with tempfile.TemporaryDirectory() as folder:
        return write_windows(
            synthetic_panel(length + max(windows, HORIZON)),
            Path(folder) / "windows",
            lookback=length,
            horizon=HORIZON,
            stride=min(length, 64),
            synthetic=True,
        )


def make_batches(frame: WindowFrame, device: torch.device) -> WindowBatches:
    """Return the batches of a frame, unknown inputs zeroed, labels as they are."""
    x_BKSF = np.nan_to_num(np.array(frame.x_BKSF))
    return WindowBatches(frame, x_BKSF, np.array(frame.y_BKS), device)


def train_row(
    bench: Bench,
    config: ModelConfig,
    batch: int,
    *,
    form: Form = "eager",
    autocast: bool = True,
    recompute: bool = False,
) -> Row:
    """Return the row of a training step: forward, backward, clipping, AdamW.

    `config.max_seq_len` bars a window. The same step is measured once in a run of the suite. The
    project's own does what the recipe `full` asks for: other windows at each call, and the weights'
    average (`ema` of its row) moved along.
    """
    key = ("train", config, batch, form, autocast, recompute)
    return bench.once(key, lambda: _train_row(bench, config, batch, form, autocast, recompute))


def step_head(form: Form) -> Row:
    """Return what tells a row of the project's own step from one of a step without an average."""
    return {} if form == "eager" else {"ema": full_recipe().train.ema_decay}


def throughput(measured: Measured, tokens: int, flops: float) -> Row:
    """Return tokens per second and TFLOP/s of a measurement; None without one."""
    if measured.ms is None:
        return {"tokens_per_s": None, "tflops": None}
    seconds = measured.ms / 1e3
    return {
        "tokens_per_s": float(f"{tokens / seconds:.4g}"),
        "tflops": float(f"{flops / seconds / 1e12:.4g}"),
    }


def backend_of(model: FlashAttentionTrader) -> str:
    """Return the name of the attention that the model used last."""
    return model.attention_choice.name


def _config(bench: Bench, length: int, sizes: dict[str, Any]) -> ModelConfig:
    return ModelConfig(
        n_symbols=len(DEFAULT_SYMBOLS),
        n_features=len(FEATURE_NAMES),
        max_seq_len=length,
        **bench.pick(sizes, _SMALL, _TINY),
    )


def _train_row(
    bench: Bench, config: ModelConfig, batch: int, form: Form, autocast: bool, recompute: bool
) -> Row:
    used: list[str] = []
    train = full_recipe().with_training(batch_size=batch, compile=form == "captured").train

    def make() -> Work:
        torch.manual_seed(SEED)
        model = FlashAttentionTrader(config).to(bench.device).train()
        model.recompute = recompute
        if form == "eager":
            step, ran = _eager_step(bench, model, batch, train, autocast), "eager"
        else:
            step, ran = _own_step(bench, model, batch, train)

        def work() -> None:
            step()
            used[:] = [backend_of(model), ran]

        return work

    length = config.max_seq_len
    measured = bench.attempt(make)
    return {
        "batch": batch,
        "length": length,
        "form": used[1] if used else "captured" if form == "captured" else "eager",
        **step_head(form),
        "dtype": "bf16" if autocast and bench.cuda else "float32",
        "attention": used[0] if used else config.attention,
        **measured.row(),
        **throughput(measured, batch * length, step_flops(config, batch, length)),
    }


def _eager_step(
    bench: Bench, model: FlashAttentionTrader, batch: int, train: TrainConfig, autocast: bool
) -> Work:
    config = model.config
    optimizer = make_optimizer(model, train)
    x_BTI = torch.randn(batch, config.max_seq_len, config.input_dim, device=bench.device)
    bars = (config.max_seq_len,) if config.supervision == "dense" else ()
    y = torch.randn(batch, *bars, config.n_outputs, device=bench.device)

    def step() -> None:
        with bench.autocast(autocast):
            loss = model.loss(model(x_BTI), y)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm)
        optimizer.step()

    return step


def _own_step(
    bench: Bench, model: FlashAttentionTrader, batch: int, train: TrainConfig
) -> tuple[Work, str]:
    """Return the project's own step, and its form: it is eager without a GPU."""
    assert train.ema_decay is not None
    frame = synthetic_frame(model.config.max_seq_len, 2 * batch)
    batches = make_batches(frame, bench.device)
    average = WeightAverage(model, train.ema_decay)
    step = make_step(model, batches, make_optimizer(model, train), train, average)
    generator = torch.Generator().manual_seed(SEED)
    windows = len(frame.anchor_N)
    draws = itertools.cycle(
        [
            torch.randperm(windows, generator=generator)[:batch].to(bench.device)
            for _ in range(_DRAWS)
        ]
    )
    return lambda: step(next(draws)), step.form.partition(":")[0]
