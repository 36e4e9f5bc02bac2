"""The convolution that learns faster gives what torch's gives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from core.encoders import convolution as module
from core.encoders import resnet
from core.encoders.convolution import Conv2d, weight_gradient


def ours(y: torch.Tensor) -> bool:
    return type(y.grad_fn).__name__ == "ConvolutionBackward"  # torch's own ends in 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("height", "width", "step"), [(4, 4, 1), (7, 7, 2), (5, 3, 1), (6, 5, 2), (1, 1, 1)])
def test_gradients_equal_torchs(
    height: int, width: int, step: int, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CACHED", 3 * height * width * 9 * 64)  # several shares, the last one smaller
    torch.manual_seed(0)
    conv = Conv2d(64, 24, step)
    x = torch.randn(7, 64, height, width).contiguous(memory_format=layout).requires_grad_()
    same = x.detach().clone().requires_grad_()
    weight = conv.weight.detach().clone().requires_grad_()
    mine, theirs = conv(x), F.conv2d(same, weight, None, step, 1)
    assert ours(mine)
    assert torch.equal(mine, theirs)
    toward = torch.randn_like(mine)
    mine.backward(toward)
    theirs.backward(toward)
    assert conv.weight.grad is not None and x.grad is not None and weight.grad is not None and same.grad is not None
    assert (conv.weight.grad - weight.grad).norm() <= 1e-5 * weight.grad.norm()
    assert torch.allclose(x.grad, same.grad, atol=1e-5)


def test_is_only_taken_where_it_is_the_faster_one_and_can_be() -> None:
    conv = Conv2d(64, 8)
    small, large = torch.randn(2, 64, 7, 7), torch.randn(2, 64, 8, 8)
    assert ours(conv(small)) and not ours(conv(large)) and not ours(Conv2d(32, 8)(small[:, :32]))
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(small).dtype == torch.bfloat16
    with torch.no_grad():
        assert conv(small).grad_fn is None
    assert not ours(conv.eval()(small))


def test_resnets_use_it_with_torchvisions_names() -> None:
    import torchvision.models as models

    net = resnet("resnet18", small=True)
    assert sum(isinstance(m, Conv2d) for m in net.modules()) == 16
    layer = net.stages[3]
    layer.load_state_dict(models.resnet18().layer4.state_dict())
    assert layer[0].conv1.weight.shape == (512, 256, 3, 3)


def test_the_gradient_needs_no_layout() -> None:
    x, grad = torch.randn(3, 4, 5, 5), torch.randn(3, 6, 5, 5)
    expected = torch.ops.aten.convolution_backward(
        grad, x, torch.zeros(6, 4, 3, 3), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [False, True, False]
    )[1]
    assert torch.allclose(weight_gradient(x, grad, 1), expected, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_maps_one_place_wide_have_right_gradients_in_bfloat16(rows: int) -> None:
    torch.manual_seed(0)
    net, x = Conv2d(32, 32, stride=2), torch.randn(16, 32, rows, 1)
    net(x).square().sum().backward()
    assert net.weight.grad is not None
    right = net.weight.grad.clone()
    for _ in range(5):
        poison = [torch.full((1 << size,), float("nan")) for size in range(6, 18)]
        del poison  # what torch reads unwritten is then no number
        net.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            y = net(x)
        assert y.dtype == torch.bfloat16
        y.float().square().sum().backward()
        assert (net.weight.grad - right).abs().max() < 0.05 * right.abs().max()
