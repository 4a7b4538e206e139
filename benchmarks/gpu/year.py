"""A year of predictions: window by window, and in one sliding pass.

Shape letters: N windows, L bars of a window, T bars of the series, I inputs per bar, S symbols.
"""

import dataclasses
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.gpu.bench import NOT_RUN, Bench, Measured, Row, Work
from benchmarks.gpu.works import SEED, backend_of, full_config, throughput
from flash_pipeline.model.captured_stream import CapturedStream
from flash_pipeline.model.config import ModelConfig
from flash_pipeline.model.streaming import stream
from flash_pipeline.model.trader import FlashAttentionTrader

WINDOWS, ONE_PASS, EAGER_PASS = "as windows", "as one sliding pass", "as one sliding pass, eager"
DIFFERENCE = "largest difference between the two"

_Predict = Callable[[Tensor], Tensor]
_Way = Callable[[FlashAttentionTrader], _Predict]

_BATCH_OF_WINDOWS = 256
_SAMPLE = 16
_ROUNDING = 1e-5  # of the predictions' size: float32 sums in another order


def year_rows(bench: Bench) -> Iterator[Row]:
    """Predict a year in all ways and compare: four rows, of which the last has no time.

    On a GPU the one pass is a captured graph.
    """
    year = _Year(bench)
    heads = [year.head(variant) for variant in (ONE_PASS, EAGER_PASS, WINDOWS, DIFFERENCE)]
    known = [row for row in map(bench.known, heads) if row is not None]
    if len(known) == len(heads):
        yield from known
        return
    yield heads[0] | year.timed("stream", year.one_pass)
    yield heads[1] | year.timed("eager", year.eager_pass)
    yield heads[2] | year.timed("windows", year.window_by_window)
    yield heads[3] | year.difference()


class _Year:
    """The model, the series, and what the two ways have given."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._length, self._hours = bench.pick((2_048, 8_760), (256, 1_000), (32, 50))
        self._config = full_config(bench, self._length)
        self._results: dict[str, Tensor] = {}

    def head(self, variant: str) -> Row:
        """Return what names a row."""
        config = self._config
        return {
            "work": f"predictions for {self._hours:,} h at {self._length:,} bars",
            "variant": variant,
            "shape": f"{config.n_layers} layers of {config.window} bars, {config.n_heads} heads",
        }

    def timed(self, name: str, way: _Way) -> Row:
        """Return the time of a way, and keep its predictions_NS by name."""
        used: list[str] = []

        def make() -> Work:
            model, x_TI = self._model(self._config), self._series()
            with self._bench.autocast():
                predict = way(model)

            def work() -> None:
                with self._bench.autocast(), torch.no_grad():
                    self._results[name] = predict(x_TI)
                used[:] = [backend_of(model)]

            return work

        measured = self._bench.attempt(make)
        attention = used[0] if used else self._config.attention
        rate = throughput(measured, self._hours, 0.0) | {"tflops": None}
        return {"attention": attention, **measured.row(), **rate}

    def window_by_window(self, model: FlashAttentionTrader) -> _Predict:
        """Return what predicts predictions_NS of every window of a series, batch by batch."""

        def predict(x_TI: Tensor) -> Tensor:
            windows_NLI = x_TI.unfold(0, self._length, 1).transpose(1, 2)
            parts = torch.split(windows_NLI, _BATCH_OF_WINDOWS)
            return torch.cat([model.predict(part.contiguous()) for part in parts])

        return predict

    def one_pass(self, model: FlashAttentionTrader) -> _Predict:
        """Return what predicts the same in one pass, captured where there is a GPU."""
        if not self._bench.cuda:
            return self.eager_pass(model)
        captured = CapturedStream(model, self._hours + self._length - 1)
        return lambda x_TI: model.head.predict(captured(x_TI))[self._length - 1 :]

    def eager_pass(self, model: FlashAttentionTrader) -> _Predict:
        """Return what predicts the same in one pass, launch by launch."""
        return lambda x_TI: model.head.predict(stream(model, x_TI))[self._length - 1 :]

    def difference(self) -> Row:
        """Compare; equal if they differ by no more than twice the dtype's own error.

        That error is of the windows' predictions against float32 with reference attention, on a
        sample.
        """

        def exact() -> Work:
            model = self._model(dataclasses.replace(self._config, attention="reference"))
            x_TI = self._series()[: _SAMPLE + self._length - 1]
            predict = self.window_by_window(model)
            return lambda: self._results.update(exact=predict(x_TI))

        measured = self._bench.attempt(exact)
        row: Row = {"attention": "", "tokens_per_s": None, "tflops": None, "goal": "equal"}
        if not {"windows", "stream", "exact"} <= set(self._results):
            note = measured.note or f"{NOT_RUN}: one of the two failed"
            return row | {"met": None} | Measured(note=note).row()
        windows_NS, stream_NS = self._results["windows"].float(), self._results["stream"].float()
        difference = (windows_NS - stream_NS).abs().max().item()
        own = (windows_NS[:_SAMPLE] - self._results["exact"]).abs().max().item()
        size = windows_NS.square().mean().sqrt().item()
        return {
            **row,
            "met": difference <= 2 * own + _ROUNDING * size,
            **Measured().row(),
            "difference": float(f"{difference:.3g}"),
            "own_error": float(f"{own:.3g}"),
            "rms": float(f"{size:.3g}"),
        }

    def _model(self, config: ModelConfig) -> FlashAttentionTrader:
        torch.manual_seed(SEED)
        return FlashAttentionTrader(config).to(self._bench.device).eval()

    def _series(self) -> Tensor:
        generator = torch.Generator().manual_seed(SEED)
        bars = self._hours + self._length - 1
        x_TI = torch.randn(bars, self._config.input_dim, generator=generator)
        return x_TI.to(self._bench.device)
