"""The price model for calls of one window, exported: compiled ahead of time, or as ONNX.

Shape letters: B batch rows (1), T bars, I inputs per bar, C model width, S symbols.

A call predicts at the last bar of one window of a fixed length, without absent bars. So the last
block asks for that bar's query alone, and the MLP behind it sees one bar: the same prediction for
about a third less work. Everything is computed in float32, as the parameters are.
"""

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flash_pipeline.errors import AttentionUnsupported, InvalidConfig
from flash_pipeline.model.attention import attend
from flash_pipeline.model.blocks import Block
from flash_pipeline.model.config import AttentionName
from flash_pipeline.model.rotary import rotate
from flash_pipeline.model.trader import FlashAttentionTrader

INPUT, OUTPUT = "x", "predictions"
"""Names of the ONNX graph's input and output."""

_OPSET = 23  # it has attention and GELU as one operator each


class LastBar(nn.Module):
    """Predicts at the last bar of one window, as `FlashAttentionTrader.predict` does.

    Parameters
    ----------
    model : FlashAttentionTrader
        Its weights are shared, so a later change of them is seen here. It is put into evaluation.
    n_bars : int
        Bars of the window.
    backend : str
        Attention: `sdpa` unless told otherwise, which every exporter takes.

    Raises
    ------
    InvalidConfig
        If the model's span is sliding and narrower than the window: a mask of its own would be
        needed, and a stream serves such a model better (`model.streaming`).
    InvalidInput
        If the model cannot read so many bars.
    """

    def __init__(
        self, model: FlashAttentionTrader, n_bars: int, backend: AttentionName = "sdpa"
    ) -> None:
        super().__init__()
        config = model.config
        if config.window is not None and config.window < n_bars:
            raise InvalidConfig(
                f"the model sees {config.window} bars of {n_bars}: expected a span of full or "
                "causal, or a window of that many bars"
            )
        weight = model.project.weight
        x_1TI = torch.zeros(1, n_bars, config.input_dim, dtype=weight.dtype, device=weight.device)
        model.check_input(x_1TI, None)
        self.model, self.n_bars = model.eval(), n_bars
        self.backend: AttentionName = backend
        turn_2TR = model.context(x_1TI, None, backend).turn_2TR
        self.register_buffer("turn_2TR", turn_2TR)

    def forward(self, x_1TI: Tensor) -> Tensor:
        """Return the predictions [1, S] of a window [1, T, I], in the head's unit."""
        h_1TC, _ = self.model.embed(x_1TI, None)
        *before, last = self.model.blocks
        context = self.model.context(h_1TC, None, self.backend)
        for block in before:
            h_1TC = block(h_1TC, context)
        assert isinstance(last, Block)
        h_11C = self._last(last, h_1TC)
        head = self.model.head
        return head.predict(head(self.model.norm(h_11C[:, 0])))

    def _last(self, block: Block, h_1TC: Tensor) -> Tensor:
        """Return the stream at the last bar after the last block."""
        normal_1TC = block.attention_norm(h_1TC)
        fused, width = block.attention.qkv, self.model.config.d_model
        q_11C = F.linear(normal_1TC[:, -1:], fused.weight[:width], fused.bias[:width])
        kv_1TC = F.linear(normal_1TC, fused.weight[width:], fused.bias[width:])
        heads = (self.model.config.n_heads, self.model.config.head_size)
        q_BTHD = q_11C.reshape(1, 1, *heads)
        k_BTHD, v_BTHD = (x.reshape(1, -1, *heads) for x in kv_1TC.chunk(2, dim=-1))
        if isinstance(self.turn_2TR, Tensor):
            q_BTHD = rotate(q_BTHD, self.turn_2TR[:, -1:])
            k_BTHD = rotate(k_BTHD, self.turn_2TR)
        o_BTHD = attend(q_BTHD, k_BTHD, v_BTHD, backend=self.backend)  # it sees all, and no more
        h_11C = h_1TC[:, -1:] + block.attention.out(o_BTHD.flatten(-2))
        updated_11C: Tensor = h_11C + block.mlp(block.mlp_norm(h_11C))
        return updated_11C


@torch.no_grad()
def export_package(model: FlashAttentionTrader, n_bars: int, path: Path) -> Callable[..., Tensor]:
    """Compile a model for one window ahead of time (AOTInductor) and return the loaded package.

    Parameters
    ----------
    model : FlashAttentionTrader
        On the device that it is to run on.
    n_bars : int
        Bars of the window.
    path : Path
        File to write, ending in `.pt2`: a library with the weights in it, for this kind of
        processor. `load_package` loads it, without this project's code.

    Raises
    ------
    InvalidConfig, InvalidInput
        As for `LastBar`.
    AttentionUnsupported
        If there is no C++ compiler.
    """
    from torch._inductor import aoti_compile_and_package

    with _quietly():
        program = _program(model, n_bars)
        try:
            aoti_compile_and_package(
                program, package_path=str(path), inductor_configs={"freezing": True}
            )
        except Exception as error:
            if "compiler" not in str(error).lower():
                raise
            raise AttentionUnsupported(f"no compiler for {path.name}: {error}") from error
    return load_package(path)


def load_package(path: Path) -> Callable[..., Tensor]:
    """Return the function of a package: from a window [1, T, I] to predictions [1, S]."""
    from torch._inductor import aoti_load_package

    package: Callable[..., Tensor] = aoti_load_package(str(path))
    return package


@torch.no_grad()
def export_onnx(model: FlashAttentionTrader, n_bars: int, path: Path) -> None:
    """Write a model for one window as ONNX, input `x` and output `predictions`.

    Parameters
    ----------
    model, n_bars
        As for `export_package`; the model on a CPU.
    path : Path
        File to write, ending in `.onnx`; the weights are in it.

    Raises
    ------
    InvalidConfig, InvalidInput
        As for `LastBar`.
    ImportError
        If the extra `latency` is not installed.
    """
    importlib.import_module("onnxscript")
    with _quietly():
        program = torch.onnx.export(
            _program(model, n_bars),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(str(path), external_data=False)


def load_onnx(path: Path, threads: int) -> Callable[[Any], Any]:
    """Return a function of an ONNX file from an array [1, T, I] to one [1, S], on the CPU.

    Raises
    ------
    ImportError
        If the extra `latency` is not installed.
    """
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run([OUTPUT], {INPUT: x})[0]


def _program(model: FlashAttentionTrader, n_bars: int) -> torch.export.ExportedProgram:
    last = LastBar(model, n_bars)
    weight = model.project.weight
    x_1TI = torch.zeros(1, n_bars, model.config.input_dim, dtype=weight.dtype, device=weight.device)
    return torch.export.export(last, (x_1TI,), strict=False)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporters' warnings about their own internals from the caller."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
