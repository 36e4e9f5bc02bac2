"""What methods say of their codes: of real places alone, each in its book, and how many of them a batch asks for."""

from __future__ import annotations

import pytest
import torch

from core.assignments import code_usage
from core.encoders import FrameStem, TokenEncoder, Transformer, TransformerConfig, WaveformStem, small_convnet
from core.heads import LinearHead
from core.methods import (
    BYOL,
    DINO,
    DeepCluster,
    DeepClusterConfig,
    DINOConfig,
    Hubert,
    HubertConfig,
    MaskedPrediction,
    SwAV,
    SwAVConfig,
    Wav2Vec2,
    Wav2Vec2Config,
)
from core.pretext import Masked


def trunk() -> Transformer:
    return Transformer(TransformerConfig(dim=16, depth=1, heads=2, position="none"))


def test_learned_codes_are_of_real_places_of_each_book() -> None:
    torch.manual_seed(0)
    method = Wav2Vec2(
        TokenEncoder(WaveformStem(16, 12, ((10, 5), (2, 2))), trunk()), Wav2Vec2Config(groups=2, codes=6, width=8)
    ).eval()
    wave, pad = torch.randn(2, 100), torch.arange(100)[None] >= torch.tensor([[100], [40]])
    code, size = method.codes({"wave": wave.masked_fill(pad, 0.0), "pad": pad})
    assert code.shape == (10 + 4, 2) and size == 6 and 0 <= int(code.min()) <= int(code.max()) < 6
    alone, _ = method.codes({"wave": wave[1:, :40], "pad": pad[1:, :40]})
    assert torch.equal(alone, code[10:])


def test_units_are_those_that_the_batch_carries_without_padding() -> None:
    method = Hubert(TokenEncoder(FrameStem(4, 16), trunk()), HubertConfig(units=9))
    unit, pad = torch.tensor([[1, 2, 8], [3, 0, 0]]), torch.tensor([[False] * 3, [False, True, True]])
    found = method.codes({"unit": unit, "pad": pad})
    assert found is not None and found[0][:, 0].tolist() == [1, 2, 8, 3] and found[1] == 9
    assert method.codes({"pad": pad}) is None


def test_clusters_and_prototypes_have_one_code_a_row_and_others_none() -> None:
    torch.manual_seed(0)
    batch = {"image": torch.randn(6, 1, 16, 16), "index": torch.tensor([5, 4, 3, 2, 1, 0])}
    deep = DeepCluster(small_convnet(1, 4), 6, DeepClusterConfig(clusters=3))
    assert deep.codes(batch) is None
    deep.cluster.copy_(torch.tensor([0, 0, 1, 1, 2, 2]))
    deep.clustered.fill_(0)
    found = deep.codes(batch)
    assert found is not None and found[0][:, 0].tolist() == [2, 2, 1, 1, 0, 0] and found[1] == 3
    for method, size in (
        (SwAV(small_convnet(1, 4), SwAVConfig(hidden=8, out=4, prototypes=7)), 7), (DINO(small_convnet(1, 4), DINOConfig(out=11)), 11)
    ):  # fmt: skip
        code, told = method.eval().codes(batch)
        assert code.shape == (6, 1) and told == size and int(code.max()) < size
    assert BYOL(small_convnet(1, 4)).codes(batch) is None


def test_codes_that_are_predicted_are_watched() -> None:
    torch.manual_seed(0)
    method = MaskedPrediction(
        TokenEncoder(FrameStem(4, 16, 1), trunk()), {"code": LinearHead(16, 8)}, books={"code": 8}
    )
    batch = {"mel": torch.randn(2, 8, 4), "pad": torch.zeros(2, 8, dtype=torch.bool)}
    mask = torch.zeros(2, 8, dtype=torch.bool)
    mask[:, :4] = True
    even = torch.arange(4).repeat(2, 2) + 4 * torch.tensor([[0], [1]])  # hidden: 0 to 3, and 4 to 7
    same = torch.zeros(2, 8, dtype=torch.long)
    for code, share in ((even, 1.0), (same, 1 / 8)):
        logs = method(Masked(batch, mask, {"code": code}), torch.Generator().manual_seed(0)).logs
        assert logs["usage_targets"] == pytest.approx(share)


def test_usage_is_of_what_could_have_been() -> None:
    assert code_usage(torch.tensor([[0, 0], [1, 0]]), 64) == pytest.approx((2 + 1) / 2 / 2)
    assert code_usage(torch.zeros(0, 2, dtype=torch.long), 64) == 1.0
