"""A forecast on a full GPU: made on the CPU, or refused, as the setting says."""

import logging

import numpy as np
import pytest
import torch

from flash_pipeline.errors import InvalidConfig, OutOfMemory
from flash_pipeline.training import fallback, trainer
from flash_pipeline.training.baselines import dlinear
from flash_pipeline.training.fallback import anywhere, predict_anyway
from flash_pipeline.training.memory import pass_explained
from flash_pipeline.training.predictor import Predictor

CPU, FULL_GPU = torch.device("cpu"), torch.device("meta")


@pytest.fixture(scope="module")
def windows(frame):
    return frame.batch(np.arange(5))


@pytest.fixture
def predict(windows):
    """Predict the windows; a pass on any device but the CPU finds no memory."""

    def predict(predictor):
        if predictor.device != CPU:
            with pass_explained(predictor.bundle.config, len(windows), predictor.bundle.lookback):
                raise torch.OutOfMemoryError("CUDA out of memory.\nMore.")
        return predictor.predict_windows(windows)

    return predict


@pytest.mark.parametrize("choice", ["cpu", "skip"])
def test_a_pass_that_does_not_fit_the_gpu_is_made_on_the_cpu(
    bundle, windows, predict, caplog, choice
):
    with caplog.at_level(logging.WARNING):
        told = predict_anyway(bundle, predict, on_gpu_trouble=choice, device=FULL_GPU)
    wanted = Predictor(bundle, CPU).predict(windows)
    np.testing.assert_array_equal(told.value_NS, wanted)
    assert "predicted on the CPU: a pass without gradients over 5 windows" in caplog.text


def test_it_fails_where_that_is_the_setting(bundle, predict, monkeypatch):
    monkeypatch.setenv("FLASH_PIPELINE_ON_GPU_TROUBLE", "fail")
    with pytest.raises(OutOfMemory, match="a pass without gradients"):
        predict_anyway(bundle, predict, device=FULL_GPU)


def test_the_setting_is_the_process_s(bundle, predict, monkeypatch):
    monkeypatch.setenv("FLASH_PIPELINE_ON_GPU_TROUBLE", "cpu")
    assert predict_anyway(bundle, predict, device=FULL_GPU).value_NS.shape == (5, 2)


def test_a_model_in_another_program_asks_for_no_other_setting(bundle, predict, monkeypatch):
    monkeypatch.setenv("FLASH_PIPELINE_FREE_DISK_GIB", "abc")
    monkeypatch.setenv("FLASH_PIPELINE_WEBHOOK_URL", "x")
    assert len(predict_anyway(bundle, predict, device=CPU).value_NS) == 5


@pytest.mark.usefixtures("no_room_for_weights")
def test_weights_that_do_not_fit_the_gpu_lead_to_the_cpu_too(bundle, predict):
    told = predict_anyway(bundle, predict, on_gpu_trouble="cpu", device=FULL_GPU)
    assert np.isfinite(told.value_NS).all()
    with pytest.raises(OutOfMemory, match="do not fit the GPU"):
        predict_anyway(bundle, predict, on_gpu_trouble="fail", device=FULL_GPU)


def test_a_lack_of_memory_on_the_cpu_itself_is_told(bundle):
    def never(_):
        raise OutOfMemory("no room")

    with pytest.raises(OutOfMemory, match="no room"):
        predict_anyway(bundle, never, on_gpu_trouble="cpu", device=CPU)


def test_another_choice_is_refused(bundle, predict):
    with pytest.raises(InvalidConfig, match="on_gpu_trouble is 'wait': expected one of fail, cpu"):
        predict_anyway(bundle, predict, on_gpu_trouble="wait")


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("CUDA error: out of memory")],
)
def test_any_work_goes_to_the_cpu_where_the_gpu_is_full(error):
    def work(device):
        if device != CPU:
            raise error
        return "done"

    assert anywhere(work, on_gpu_trouble="cpu", device=FULL_GPU) == "done"
    with pytest.raises(OutOfMemory, match="do not fit the GPU"):
        anywhere(work, on_gpu_trouble="fail", device=FULL_GPU)


def test_another_error_is_no_lack_of_memory():
    def work(_):
        raise RuntimeError("CUDA error: device-side assert")

    with pytest.raises(RuntimeError, match="device-side assert"):
        anywhere(work, on_gpu_trouble="cpu", device=FULL_GPU)


def test_a_baseline_s_network_is_fitted_on_the_cpu_where_the_gpu_is_full(frame, split, monkeypatch):
    fitted, places = dlinear._fitted, []

    def full(*arguments):
        places.append(arguments[-1])
        if arguments[-1] != CPU:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return fitted(*arguments)

    monkeypatch.setenv("FLASH_PIPELINE_ON_GPU_TROUBLE", "cpu")
    monkeypatch.setattr(fallback, "default_device", lambda: FULL_GPU)
    monkeypatch.setattr(dlinear, "_fitted", full)
    assert dlinear.DLinear.fit(frame, split).weights
    assert places == [FULL_GPU, CPU]


@pytest.mark.parametrize("place", ["window_batches", "FlashAttentionTrader"])
def test_a_training_whose_data_or_weights_do_not_fit_says_so(
    frame, split, make_recipe, monkeypatch, place
):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(trainer, place, full)
    with pytest.raises(OutOfMemory, match="the windows and the model of recipe"):
        trainer.train(frame, split, make_recipe(epochs=1), device=CPU)
