"""The moving average of the weights."""

import pytest
import torch

from flash_pipeline.training.ema import WeightAverage


@pytest.fixture
def model():
    model = torch.nn.Linear(2, 1)
    torch.nn.init.zeros_(model.weight)
    return model


def moved(model, average, values):
    """Return the average of the weight after updates at each of these values."""
    for value in values:
        torch.nn.init.constant_(model.weight, value)
        average.update()
    return average.tensors()["weight"]


def test_an_average_of_one_value_is_that_value(model):
    assert moved(model, WeightAverage(model, 0.9), [3.0] * 400).allclose(torch.full((1, 2), 3.0))


def test_the_first_updates_forget_the_start_quickly(model):
    # The first keeps 2 / 11 of the start, the second 3 / 12 of what was.
    average = WeightAverage(model, 0.9)
    assert moved(model, average, [1.0]).tolist()[0] == pytest.approx([9 / 11] * 2)
    assert moved(model, average, [2.0]).tolist()[0] == pytest.approx([9 / 11 / 4 + 2 * 3 / 4] * 2)


def test_in_the_long_run_the_decay_is_the_one_asked_for(model):
    average = WeightAverage(model, 0.5)
    before = moved(model, average, [1.0] * 50).clone()
    after = moved(model, average, [2.0])
    assert after.allclose(0.5 * before + 0.5 * 2.0)


def test_the_average_is_lent_to_the_model_and_its_weights_come_back(model):
    average = WeightAverage(model, 0.9)
    averaged = moved(model, average, [1.0, 5.0]).clone()
    address = model.weight.data_ptr()
    with average.applied():
        assert model.weight.equal(averaged)
        assert model.weight.data_ptr() == address
    assert model.weight.tolist() == [[5.0, 5.0]]
    assert model.weight.requires_grad


def test_the_weights_come_back_from_a_block_that_fails(model):
    average = WeightAverage(model, 0.9)
    torch.nn.init.constant_(model.weight, 5.0)
    with pytest.raises(RuntimeError), average.applied():
        raise RuntimeError
    assert model.weight.tolist() == [[5.0, 5.0]]


def test_an_average_goes_on_from_its_tensors(model):
    one, other = WeightAverage(model, 0.9), WeightAverage(model, 0.9)
    moved(model, one, [1.0, 2.0])
    for name, tensor in other.tensors().items():
        tensor.copy_(one.tensors()[name])
    assert moved(model, one, [7.0]).equal(moved(model, other, [7.0]))
