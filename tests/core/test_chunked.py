"""Softmax in blocks of rows is softmax: same loss, same gradients, at any size of the blocks, and without the whole matrix."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from core.chunked import ChunkedHead
from core.heads import TiedHead

SIZE, DIM, ROWS = 40, 8, 23


def heads(rows: int, bias: bool, temperature: float, width: int = DIM) -> tuple[TiedHead, ChunkedHead]:
    """Two heads of equal weights on tables of equal weights."""
    torch.manual_seed(0)
    made = []
    for chunked in (False, True):
        table = nn.Embedding(SIZE, width)
        more = {"bias": bias, "temperature": temperature}
        made.append(ChunkedHead(DIM, table, rows, **more) if chunked else TiedHead(DIM, table, **more))
    made[1].load_state_dict(made[0].state_dict())
    made[1].table[0].load_state_dict(made[0].table[0].state_dict())
    if bias:
        with torch.no_grad():
            made[0].bias.normal_()
            made[1].bias.copy_(made[0].bias)
    return made[0], made[1]


def gradients(head: TiedHead, hidden: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> list[torch.Tensor]:
    given = hidden.clone().requires_grad_()
    (head.log_prob(given, target) * weights).sum().backward()
    return [given.grad, head.table[0].weight.grad, *(p.grad for p in head.parameters())]


@pytest.mark.parametrize("rows", [1, 7, ROWS, 1000])
@pytest.mark.parametrize(("bias", "temperature", "width"), [(False, 0.0, DIM), (True, 0.0, 5), (False, 0.1, DIM), (True, 0.2, 5)])  # fmt: skip
def test_loss_and_gradients_are_those_of_the_whole_softmax(
    rows: int, bias: bool, temperature: float, width: int
) -> None:
    whole, chunked = heads(rows, bias, temperature, width)
    hidden, target = 3 * torch.randn(ROWS, DIM), torch.randint(3, SIZE, (ROWS,))
    torch.testing.assert_close(chunked.loss(hidden, target), whole.loss(hidden, target))
    torch.testing.assert_close(chunked.log_prob(hidden, target), whole.log_prob(hidden, target))
    torch.testing.assert_close(chunked.log_probs(hidden), whole.log_probs(hidden))
    weights = torch.randn(ROWS)  # no row's gradient is like another's
    for ours, theirs in zip(
        gradients(chunked, hidden, target, weights), gradients(whole, hidden, target, weights), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_gradients_agree_with_finite_differences() -> None:
    table = nn.Embedding(9, 4).double()
    head = ChunkedHead(4, table, rows=2)
    target = torch.tensor([3, 8, 5])

    def loss(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        from core.chunked import _LogProb

        return _LogProb.apply(hidden, weight, None, target, head.first, head.rows)

    hidden = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (hidden, table.weight))


def test_logits_far_from_zero_stay_finite() -> None:
    _, head = heads(5, False, 0.0)
    hidden = (1e4 * torch.randn(ROWS, DIM)).requires_grad_()
    loss = head.loss(hidden, torch.full((ROWS,), 3))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(hidden.grad).all()


def test_no_rows_give_nothing_to_learn() -> None:
    _, head = heads(5, False, 0.0)
    loss = head.loss(torch.zeros(0, DIM, requires_grad=True), torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0 and not head.table[0].weight.grad.any()


def test_no_tensor_of_all_rows_and_items_is_made() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, function, types, arguments=(), more=None):
            made = function(*arguments, **(more or {}))
            if isinstance(made, torch.Tensor):
                self.size = max(self.size, made.numel())
            return made

    sizes = []
    for head in heads(4, False, 0.0):
        hidden, target = torch.randn(ROWS, DIM, requires_grad=True), torch.randint(3, SIZE, (ROWS,))
        with Largest() as seen:
            head.loss(hidden, target).backward()
        sizes.append(seen.size)
    assert sizes[0] == ROWS * SIZE and sizes[1] <= max(4 * SIZE, SIZE * DIM)


def test_fewer_than_one_row_is_refused() -> None:
    with pytest.raises(ValueError, match="rows is 0"):
        ChunkedHead(DIM, nn.Embedding(SIZE, DIM), rows=0)
