import logging
from types import SimpleNamespace

import pytest
import torch

from flash_pipeline.errors import AttentionUnsupported, InvalidConfig
from flash_pipeline.model import attention
from flash_pipeline.model.attention import choose_backend

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
BF16 = torch.bfloat16


@pytest.fixture(autouse=True)
def _forget_earlier_choices():
    attention._flash_import_refusal.cache_clear()
    attention._announce.cache_clear()
    yield
    attention._flash_import_refusal.cache_clear()
    attention._announce.cache_clear()


@pytest.fixture
def pretend(monkeypatch):
    """Return a switch that pretends a GPU of some capability, with or without flash-attn."""

    def switch(capability, installed):
        def package():
            if not installed:
                raise ImportError("No module named 'flash_attn'")
            return SimpleNamespace()

        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(attention, "flash_attn_package", package)

    return switch


def test_auto_takes_flash_attn_on_a_recent_gpu(pretend):
    pretend((9, 0), installed=True)
    choice = choose_backend(CUDA, BF16, 64, has_mask=False)
    assert (choice.name, choice.kernel) == ("flash_attn", "flash_attn_func")
    assert choice.reason == "it takes torch.bfloat16 on cuda"


def test_a_key_mask_takes_the_kernel_for_packed_sequences(pretend):
    pretend((8, 0), installed=True)
    assert choose_backend(CUDA, BF16, 64, has_mask=True).kernel == "flash_attn_varlen_func"


@pytest.mark.parametrize(
    ("device", "dtype", "head_size", "capability", "installed", "reason"),
    [
        (CPU, BF16, 64, (9, 0), True, "the device is cpu: expected a CUDA device"),
        (CUDA, torch.float32, 64, (9, 0), True, "the dtype is torch.float32: expected torch.float"),
        (CUDA, BF16, 264, (9, 0), True, "the head size is 264: expected at most 256"),
        (CUDA, BF16, 64, (7, 5), True, "the compute capability is 7.5: expected at least 8.0"),
        (CUDA, BF16, 64, (9, 0), False, "the flash_attn package cannot be imported"),
    ],
)
def test_without_flash_attn_auto_takes_sdpa_and_a_request_is_refused_for_the_same_reason(
    pretend, device, dtype, head_size, capability, installed, reason
):
    pretend(capability, installed)
    choice = choose_backend(device, dtype, head_size, has_mask=False)
    assert choice.name == "sdpa"
    assert f"no flash_attn, since {reason}" in choice.reason
    with pytest.raises(AttentionUnsupported) as refusal:
        choose_backend(device, dtype, head_size, has_mask=False, requested="flash_attn")
    assert f"flash_attn was asked for, but {reason}" in str(refusal.value)


@pytest.mark.parametrize("name", ["sdpa", "reference"])
def test_a_backend_asked_for_by_name_is_taken(name):
    choice = choose_backend(CPU, torch.float32, 64, has_mask=True, requested=name)
    assert (choice.name, choice.reason) == (name, "asked for by name")


def test_an_unknown_backend_is_refused():
    with pytest.raises(InvalidConfig, match=r"'triton' is unknown: expected auto flash_attn"):
        choose_backend(CPU, BF16, 64, has_mask=False, requested="triton")


def test_whole_numbers_are_refused():
    with pytest.raises(AttentionUnsupported, match=r"torch\.int64: expected a floating-point"):
        choose_backend(CPU, torch.int64, 64, has_mask=False)


def test_a_choice_left_to_auto_is_logged_once(caplog):
    caplog.set_level(logging.INFO)
    for _ in range(3):
        choose_backend(CPU, torch.float32, 64, has_mask=False)
    (record,) = caplog.records
    assert "sdpa (scaled_dot_product_attention): no flash_attn, since" in record.getMessage()
