import pytest
import torch

from flash_pipeline.errors import AttentionUnsupported
from flash_pipeline.model.kernels import flex


@pytest.fixture
def doubled(monkeypatch):
    """Return a function that is compiled for each shape, and the shapes compiled for."""
    shapes, compile_ = [], torch.compile

    def backend(graph, inputs):
        shapes.append(inputs[0].shape[0])
        return graph.forward

    def double(x):
        return 2 * x

    monkeypatch.setattr(
        torch, "compile", lambda function, **options: compile_(function, backend=backend, **options)
    )
    monkeypatch.setattr(flex, "MOST_SHAPES", 9)
    yield flex.compiled_for_each_shape(double), shapes
    torch.compiler.reset()


def test_more_shapes_than_pytorch_allows_by_itself_are_compiled(doubled):
    double, shapes = doubled
    for length in (2, 3, 4, 5, 6, 7, 8, 9, 10, 2, 3):
        assert double(torch.ones(length)).equal(2 * torch.ones(length))
    assert shapes == list(range(2, 11))


def test_one_shape_too_many_is_an_error_and_never_runs_uncompiled(doubled):
    double, _ = doubled
    for length in range(2, 11):
        double(torch.ones(length))
    with pytest.raises(AttentionUnsupported, match="flex was compiled for 9 shapes"):
        double(torch.ones(11))
    assert double(torch.ones(4)).equal(2 * torch.ones(4)), "those before still run"
