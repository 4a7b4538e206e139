"""What becomes of a prediction that does not fit the GPU: the CPU makes it, or it fails."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from flash_pipeline.errors import InvalidConfig, OutOfMemory
from flash_pipeline.settings import GPU_TROUBLE_CHOICES, gpu_trouble_choice
from flash_pipeline.training.bundle import ModelBundle, default_device
from flash_pipeline.training.ceilings import release_gpu
from flash_pipeline.training.memory import gpu_explained
from flash_pipeline.training.predictor import Predictions, Predictor

_log = logging.getLogger(__name__)

Done = TypeVar("Done")


def predict_anyway(
    bundle: ModelBundle,
    predict: Callable[[Predictor], Predictions],
    *,
    on_gpu_trouble: str | None = None,
    device: torch.device | None = None,
) -> Predictions:
    """Return a model's predictions, from the CPU where the GPU has no room and that is allowed.

    The CPU's predictions are those of the GPU but for rounding: float32 in place of bf16.

    Parameters
    ----------
    predict : callable
        Makes the predictions with a predictor; called a second time on the CPU.
    on_gpu_trouble : str or None
        `fail`, `cpu` or `skip`; None for what FLASH_PIPELINE_ON_GPU_TROUBLE says. `skip` leaves
        out a training, never a forecast: it is made on the CPU.
    device : torch.device or None
        By default a CUDA device where there is one.

    Raises
    ------
    OutOfMemory
        If the GPU has no room, for the model or for a pass, and the choice is `fail`.
    InvalidConfig
        For another choice.
    """
    return anywhere(
        lambda place: predict(Predictor(bundle, place)),
        on_gpu_trouble=on_gpu_trouble,
        device=device,
    )


def anywhere(
    work: Callable[[torch.device], Done],
    *,
    on_gpu_trouble: str | None = None,
    device: torch.device | None = None,
) -> Done:
    """Return what some work gives on the GPU, or on the CPU as for `predict_anyway`.

    Parameters
    ----------
    work : callable
        Takes the device; called a second time with the CPU.
    on_gpu_trouble, device
        As for `predict_anyway`, errors too.
    """
    policy = on_gpu_trouble or gpu_trouble_choice()
    if policy not in GPU_TROUBLE_CHOICES:
        expected = ", ".join(GPU_TROUBLE_CHOICES)
        raise InvalidConfig(f"on_gpu_trouble is {policy!r}: expected one of {expected}")
    device = device or default_device()
    try:
        with gpu_explained("the weights and the inputs"):
            return work(device)
    except OutOfMemory as error:
        if policy == "fail" or device.type == "cpu":
            raise
        trouble = str(error)  # the error itself holds on to what lies on the GPU
    release_gpu()
    _log.warning("predicted on the CPU: %s", trouble)
    return work(torch.device("cpu"))
