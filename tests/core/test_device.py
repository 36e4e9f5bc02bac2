"""Where and how a method is computed."""

import pytest
import torch

from core.device import swift_precision


@pytest.mark.parametrize(
    ("able", "precision"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True, "avx512_bf16": False}, "bf16"), ({"avx2": True}, "fp32"), ({}, "fp32")],
)  # fmt: skip
def test_half_precision_is_for_processors_that_multiply_it(able, precision, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert swift_precision() == precision
