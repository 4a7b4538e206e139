import dataclasses
import logging
from types import SimpleNamespace

import pytest
import torch

from flash_pipeline.errors import AttentionUnsupported, InvalidConfig
from flash_pipeline.model import attention, refusals
from flash_pipeline.model.attention import choose_backend, usable_backends
from flash_pipeline.model.refusals import BACKENDS, AttentionCall, refusal
from flash_pipeline.model.speeds import SpeedRow, SpeedTable, shipped_speeds

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
BF16 = torch.bfloat16
ON_GPU = AttentionCall(CUDA, BF16, head_size=64, length=2048)
ON_CPU = AttentionCall(CPU, torch.float32, head_size=64, length=2048)

MEASURED = {row.span for row in shipped_speeds().rows}

SPEEDS = SpeedTable(
    "imagined",
    (
        SpeedRow(64, "full", 512, {"sdpa_cudnn": 1.0, "flash_attn": 1.5, "flash_attn_4": 2.0}),
        SpeedRow(64, "full", 8192, {"sdpa_cudnn": 3.0, "flash_attn": 4.0, "flash_attn_4": 2.0}),
        SpeedRow(64, "sliding", 2048, {"flash_attn": 1.0, "flash_attn_4": 2.0, "flex": 3.0}),
        SpeedRow(64, "causal", 2048, {"sdpa": 1.0, "reference": 1.5, "tiled": 1.6, "flex": 2.0}),
    ),
)


@pytest.fixture(autouse=True)
def _forget_earlier_choices():
    refusals._import_refusal.cache_clear()
    attention._announce.cache_clear()
    yield
    refusals._import_refusal.cache_clear()
    attention._announce.cache_clear()


@pytest.fixture
def pretend(monkeypatch):
    """Return a switch that pretends a GPU of some capability with some packages installed."""

    def switch(capability=(9, 0), installed=("flash_attn", "flash_attn_4")):
        def package(name):
            def importer():
                if name not in installed:
                    raise ImportError(f"No module named {name!r}")
                return SimpleNamespace()

            return importer

        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
        monkeypatch.setattr(refusals, "flash_attn_package", package("flash_attn"))
        monkeypatch.setattr(refusals, "flash_attn_4_package", package("flash_attn_4"))
        monkeypatch.setattr(refusals, "compiler_refusal", lambda: None)

    return switch


def changed(call, **changes):
    return dataclasses.replace(call, **changes)


@pytest.mark.parametrize(("length", "fastest"), [(512, "sdpa_cudnn"), (8192, "flash_attn_4")])
def test_auto_takes_the_fastest_measured_at_the_nearest_length(pretend, length, fastest):
    pretend()
    choice = choose_backend(changed(ON_GPU, length=length), speeds=SPEEDS)
    assert choice.name == fastest
    assert choice.reason == f"the fastest measured at {length} bars"


def test_auto_passes_over_what_cannot_honour_the_call_and_says_why(pretend):
    pretend()
    choice = choose_backend(changed(ON_GPU, length=512, deterministic=True), speeds=SPEEDS)
    assert choice.name == "flash_attn"
    assert "the fastest measured at 512 bars; not sdpa_cudnn, since it is not" in choice.reason


def test_auto_ranks_no_backend_that_is_several_or_none_of_the_fused_kernels(pretend):
    pretend()
    choice = choose_backend(changed(ON_GPU, causal=True), speeds=SPEEDS)
    assert choice.name == "flex", "sdpa, reference and tiled have the better times"


@pytest.mark.parametrize(
    ("changes", "installed", "expected"),
    [
        ({"has_mask": True}, ("flash_attn", "flash_attn_4"), "flash_attn"),
        ({"has_mask": True}, (), "sdpa"),
        ({"has_mask": True, "causal": True}, ("flash_attn",), "flash_attn"),
        ({"has_mask": True, "causal": True}, ("flash_attn_4",), "sdpa"),
        ({"has_mask": True, "dropout": True}, ("flash_attn",), "flash_attn"),
        ({"has_mask": True, "causal": True, "window": 300}, ("flash_attn",), "flex"),
        ({"has_mask": True, "causal": True, "window": 300, "dropout": True}, (), "sdpa"),
        ({"dropout": True}, ("flash_attn", "flash_attn_4"), "flash_attn"),
        ({"dropout": True}, ("flash_attn_4",), "sdpa_flash"),
        ({"dropout": True, "head_size": 20}, (), "sdpa"),
        ({"dropout": True, "causal": True}, (), "sdpa_flash"),
        ({"dropout": True, "causal": True, "window": 300}, ("flash_attn",), "flash_attn"),
        ({"dropout": True, "causal": True, "window": 300}, (), "sdpa_efficient"),
        ({"dropout": True, "dtype": torch.float32}, ("flash_attn",), "sdpa_efficient"),
    ],
)
def test_what_was_not_measured_goes_by_an_order_and_not_by_the_shipped_table(
    pretend, changes, installed, expected
):
    pretend(installed=installed)
    choice = choose_backend(changed(ON_GPU, **changes))
    assert choice.name == expected
    assert "the fastest measured" not in choice.reason
    extra = "a mask" if changes.get("has_mask") else "dropout"
    assert choice.reason.startswith(f"by the order under {extra} at 2048 bars")


def test_a_mask_takes_the_kernel_for_packed_sequences(pretend):
    pretend()
    choice = choose_backend(changed(ON_GPU, has_mask=True))
    assert (choice.name, choice.kernel) == ("flash_attn", "flash_attn_varlen_func")


@pytest.mark.parametrize("span", [{}, {"causal": True}, {"causal": True, "window": 300}])
def test_the_shipped_table_never_leads_to_sdpa_where_a_fused_kernel_is_there(pretend, span):
    pretend()
    for length in (512, 2048, 100_000):
        choice = choose_backend(changed(ON_GPU, length=length, **span))
        assert choice.name != "sdpa"
        measured = changed(ON_GPU, **span).span in MEASURED
        assert choice.reason.startswith("the fastest measured" if measured else "by the usual")


def test_a_window_over_masked_bars_goes_to_flex_attention(pretend):
    pretend()
    masked = changed(ON_GPU, has_mask=True, causal=True, window=300)
    assert choose_backend(masked, speeds=SPEEDS).name == "flex"


def test_without_flash_attn_a_window_goes_to_flex_attention(pretend):
    pretend(installed=())
    sliding = changed(ON_GPU, causal=True, window=300)
    assert choose_backend(sliding, speeds=SPEEDS).name == "flex"


def test_float32_on_a_gpu_goes_to_sdpa(pretend):
    pretend()
    choice = choose_backend(changed(ON_GPU, dtype=torch.float32))
    assert choice.name == "sdpa"
    assert choice.reason.startswith("by the usual order"), "the table is of bfloat16"
    assert "the dtype is torch.float32: expected torch.float16 or torch.bfloat16" in choice.reason


def test_an_old_gpu_still_runs(pretend):
    pretend(capability=(7, 5))
    assert choose_backend(ON_GPU, speeds=SPEEDS).name == "sdpa"


def test_where_nothing_was_measured_the_usual_order_holds(pretend):
    pretend()
    choice = choose_backend(ON_GPU, speeds=SpeedTable("none", ()))
    assert choice.name == "flash_attn_4"
    assert "by the usual order" in choice.reason


def test_a_cpu_takes_sdpa():
    choice = choose_backend(ON_CPU)
    assert choice.name == "sdpa"
    assert "the fused kernels run on CUDA, the device is cpu" in choice.reason


def test_a_cpu_takes_tiles_for_a_narrow_window_of_many_bars():
    narrow = changed(ON_CPU, causal=True, window=300)
    assert choose_backend(narrow).name == "tiled"
    for other in ({"window": 600}, {"length": 1000}, {"dropout": True}):
        assert choose_backend(changed(narrow, **other)).name == "sdpa"


@pytest.mark.parametrize(
    ("name", "changes", "capability", "installed", "reason"),
    [
        ("flash_attn", {"device": CPU}, (9, 0), True, "the device is cpu: expected a CUDA device"),
        ("flash_attn", {"dtype": torch.float32}, (9, 0), True, "the dtype is torch.float32"),
        ("flash_attn", {"head_size": 264}, (9, 0), True, "the head size is 264: expected at most"),
        ("flash_attn", {"head_size": 20}, (9, 0), True, "the head size is 20: expected a multiple"),
        ("flash_attn", {}, (7, 5), True, "the compute capability is 7.5: expected at least 8.0"),
        ("flash_attn", {}, (9, 0), False, "its package cannot be imported (No module named"),
        (
            "flash_attn",
            {"has_mask": True, "causal": True, "window": 9},
            (9, 0),
            True,
            "it has no window over masked bars",
        ),
        ("flash_attn_4", {}, (8, 0), True, "the compute capability is 8.0: expected at least 9.0"),
        (
            "flash_attn_4",
            {},
            (12, 0),
            True,
            "the compute capability is 12.0: expected at",
        ),
        ("sdpa_cudnn", {"deterministic": True}, (9, 0), True, "it is not deterministic"),
        ("flash_attn_4", {"head_size": 192}, (9, 0), True, "the head size is 192: expected one"),
        ("flash_attn_4", {"head_size": 16}, (9, 0), True, "the head size is 16: expected one"),
        ("sdpa_cudnn", {"packed": True}, (9, 0), True, "it takes no sequence of one token"),
        ("flash_attn_4", {"has_mask": True}, (9, 0), True, "it takes no key mask"),
        ("flash_attn_4", {"dropout": True}, (9, 0), True, "it has no dropout"),
        ("flash_attn_4", {}, (9, 0), False, "its package cannot be imported"),
        ("sdpa_cudnn", {"causal": True, "window": 9}, (9, 0), True, "it has no sliding window"),
        ("sdpa_cudnn", {"has_mask": True}, (9, 0), True, "it takes no key mask"),
        ("sdpa_flash", {"has_mask": True}, (9, 0), True, "it takes no key mask"),
        ("sdpa_efficient", {"device": CPU}, (9, 0), True, "the device is cpu"),
        ("sdpa_efficient", {"head_size": 20}, (9, 0), True, "the head size is 20"),
        ("sdpa_efficient", {"has_mask": True, "length": 99}, (9, 0), True, "a mask over 99 bars"),
        ("flex", {"device": CPU}, (9, 0), True, "the device is cpu: expected a CUDA device"),
        ("flex", {"head_size": 48}, (9, 0), True, "the head size is 48: expected a power of 2"),
        ("flex", {"dropout": True}, (9, 0), True, "it has no dropout"),
        ("tiled", {"dropout": True}, (9, 0), True, "it has no dropout"),
    ],
)
def test_a_backend_that_cannot_honour_a_call_is_refused_with_the_reason(
    pretend, name, changes, capability, installed, reason
):
    pretend(capability, ("flash_attn", "flash_attn_4") if installed else ())
    with pytest.raises(AttentionUnsupported) as caught:
        choose_backend(changed(ON_GPU, **changes), requested=name)
    assert f"{name} was asked for, but {reason}" in str(caught.value)


@pytest.mark.parametrize("major", [9, 10])
def test_flash_attn_4_is_taken_on_the_gpus_that_it_was_made_for(pretend, major):
    pretend((major, 3))
    assert choose_backend(ON_GPU, "flash_attn_4").name == "flash_attn_4"


def test_flex_is_refused_where_nothing_compiles_it(pretend, monkeypatch):
    pretend()
    monkeypatch.setattr(refusals, "compiler_refusal", lambda: "its compiler is missing")
    assert refusal("flex", ON_GPU) == "its compiler is missing"


@pytest.mark.parametrize(
    ("triton", "found", "variable", "reason"),
    [
        (None, "gcc", "", "its compiler, triton, is not installed"),
        ("triton", None, "", "its compiler, triton, finds no C compiler"),
        ("triton", None, "/opt/cc", None),
        ("triton", "clang", "", None),
        ("triton", "gcc", "", None),
    ],
)
def test_a_missing_compiler_is_named(monkeypatch, triton, found, variable, reason):
    monkeypatch.setattr(refusals.importlib.util, "find_spec", lambda _: triton)
    monkeypatch.setattr(refusals.shutil, "which", lambda name: name if name == found else None)
    monkeypatch.setenv("CC", variable)
    told = refusals.compiler_refusal()
    assert told is reason is None or told.startswith(reason)


def test_a_call_knows_whether_torch_is_deterministic():
    q_BTHD = torch.zeros(1, 4, 2, 8)
    plain = {"causal": False, "window": None, "dropout": False}
    assert not AttentionCall.of(q_BTHD, False, **plain).deterministic
    torch.use_deterministic_algorithms(True)
    try:
        assert AttentionCall.of(q_BTHD, False, **plain).deterministic
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", ["sdpa", "tiled", "reference"])
def test_a_backend_asked_for_by_name_is_taken(name):
    choice = choose_backend(changed(ON_CPU, has_mask=True), name)
    assert (choice.name, choice.reason) == (name, "asked for by name")


def test_the_usable_backends_are_those_that_nothing_is_held_against(pretend):
    pretend(installed=("flash_attn",))
    sliding = changed(ON_GPU, causal=True, window=300)
    assert set(usable_backends(sliding)) == {
        name for name in BACKENDS if refusal(name, sliding) is None
    }
    assert set(usable_backends(ON_CPU)) == {"sdpa", "tiled", "reference"}


def test_an_unknown_backend_is_refused():
    with pytest.raises(InvalidConfig, match=r"'triton' is unknown: expected auto flash_attn"):
        choose_backend(ON_CPU, "triton")


def test_whole_numbers_are_refused():
    with pytest.raises(AttentionUnsupported, match=r"torch\.int64: expected a floating-point"):
        choose_backend(changed(ON_CPU, dtype=torch.int64))


def test_a_choice_left_to_auto_is_logged_once(caplog):
    caplog.set_level(logging.INFO)
    for _ in range(3):
        choose_backend(ON_CPU)
    (record,) = caplog.records
    assert "sdpa (scaled_dot_product_attention): the fused kernels run on" in record.getMessage()


def test_the_shipped_table_ranks_every_span_that_it_measured_at_any_size():
    speeds = shipped_speeds()
    assert {"causal", "sliding"} <= MEASURED, "the spans that the recipe of a GPU may have"
    for span in MEASURED:
        for head_size in (16, 32, 64, 128):
            for length in (64, 2048, 1_000_000):
                ranked = speeds.ranking(head_size, span, length)
                assert set(ranked) <= set(BACKENDS)
                assert len(ranked) >= 2
