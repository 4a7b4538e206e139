import pytest
import torch

from flash_pipeline.model.rotary import ROTARY_BASE, rotate, rotation

CPU = torch.device("cpu")


def draw(n_bars=20, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, n_bars, 3, 8, generator=generator).to(dtype)


def test_the_first_bar_is_not_turned():
    x_BTHD = draw()
    assert rotate(x_BTHD, rotation(20, 8, CPU))[:, 0].equal(x_BTHD[:, 0])


def test_a_turn_keeps_lengths():
    x_BTHD = draw()
    turned_BTHD = rotate(x_BTHD, rotation(20, 8, CPU))
    torch.testing.assert_close(turned_BTHD.norm(dim=-1), x_BTHD.norm(dim=-1))


def test_a_pair_is_turned_by_its_frequency_times_the_bar():
    x_BTHD = torch.zeros(1, 5, 1, 8)
    x_BTHD[..., 1] = 1.0
    turned_BTHD = rotate(x_BTHD, rotation(5, 8, CPU))
    angle = torch.tensor(4 * ROTARY_BASE ** (-2 / 8))
    torch.testing.assert_close(turned_BTHD[0, 4, 0, 1], angle.cos())
    torch.testing.assert_close(turned_BTHD[0, 4, 0, 5], angle.sin())


def test_products_of_queries_and_keys_depend_on_their_distance_alone():
    q_BTHD, k_BTHD = draw(1).expand(-1, 30, -1, -1), draw(1).flip(-1).expand(-1, 30, -1, -1)
    turn_2TR = rotation(30, 8, CPU)
    products = torch.einsum("bthd,bshd->bhts", rotate(q_BTHD, turn_2TR), rotate(k_BTHD, turn_2TR))
    for lag in (0, 3, 11):
        diagonal = products.diagonal(-lag, dim1=-2, dim2=-1)
        torch.testing.assert_close(diagonal, diagonal[..., :1].expand_as(diagonal))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_stays(dtype):
    assert rotate(draw(dtype=dtype), rotation(20, 8, CPU)).dtype == dtype
