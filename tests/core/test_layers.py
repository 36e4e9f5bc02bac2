"""The weighted sum of layers: equal to logistic regression where there is one layer, and it finds the layers that tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.encoders import small_convnet
from core.encoders.encoder import TokenEncoder, pool_tokens
from core.encoders.frames import FrameStem
from core.encoders.transformer import Transformer, TransformerConfig
from core.errors import UserError
from core.layers import embed_layers, fit_layers, layer_model, probabilities, stacked
from core.probes import linear


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray]:
    """Four layers of 20 numbers: the second and third tell the class, each with noise of its own."""
    draw = np.random.default_rng(0)
    y = draw.integers(0, 4, 600)
    x = draw.standard_normal((600, 4, 20)).astype(np.float32)
    for layer in (1, 2):
        x[:, layer, :4] += 1.5 * np.eye(4, dtype=np.float32)[y]
    return 3 * x + 5, y


def accuracy(share: np.ndarray, y: np.ndarray) -> float:
    return float((share.argmax(1) == y).mean())


def test_with_one_layer_it_is_scikit_learns_regression(planted) -> None:
    x, y = planted
    ours = probabilities(fit_layers(x[:400, 1:2], y[:400], 0.1), x[400:, 1:2])
    assert np.abs(ours - linear(x[:400, 1], y[:400], x[400:, 1], costs=(0.1,))).max() < 2e-3


def test_it_weighs_the_layers_that_tell_and_beats_each_of_them(planted) -> None:
    x, y = planted
    probe = layer_model(x[:400], y[:400], costs=(1e-2, 1e-1))
    assert probe.weights[1:3].min() > 0.35 and abs(float(probe.weights.sum()) - 1) < 1e-6
    both = accuracy(probabilities(probe, x[400:]), y[400:])
    each = [accuracy(linear(x[:400, i], y[:400], x[400:, i], costs=(0.1,)), y[400:]) for i in range(4)]
    assert both > max(each) + 0.03


def test_the_labels_alone_decide_and_equal_input_gives_equal_weights(planted) -> None:
    x, y = planted
    first, again = (fit_layers(x[:200], y[:200], 0.1).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    text = layer_model(x[:200], np.array(["d", "c", "b", "a"])[y[:200]], np.arange(200) % 5, costs=(0.1,))
    assert accuracy(probabilities(text, x[400:])[:, ::-1], y[400:]) > 0.6  # in the order of the sorted names


def test_layers_are_pooled_as_the_encoder_pools_and_padding_takes_no_part() -> None:
    torch.manual_seed(0)
    trunk = Transformer(TransformerConfig(dim=16, depth=2, heads=2, position="sinusoidal"))
    encoder = TokenEncoder(FrameStem(8, 16), trunk, pool="mean_max")
    mel, pad = torch.randn(3, 24, 8), torch.arange(24)[None] >= torch.tensor([24, 12, 16])[:, None]
    batch = {"mel": mel.masked_fill(pad[..., None], 0.0), "pad": pad}
    longer = {
        "mel": torch.nn.functional.pad(batch["mel"], (0, 0, 0, 8)),
        "pad": torch.nn.functional.pad(pad, (0, 8), value=True),
    }
    short, long = (stacked(embed_layers(encoder, [b])) for b in (batch, longer))
    assert short.shape == (3, 3, 32) and np.allclose(short, long, atol=1e-4)
    with torch.no_grad():
        assert np.allclose(short[:, -1], encoder.embed(batch), atol=1e-6)
        assert np.allclose(short[:, 0], pool_tokens(encoder.stem(batch), "mean_max"), atol=1e-6)


def test_maps_of_a_convolutional_net_have_layers_but_no_sum() -> None:
    layers = embed_layers(small_convnet(1, 4), [{"image": torch.randn(2, 1, 32, 32)}])
    assert [layer.shape for layer in layers] == [(2, 8), (2, 16), (2, 32), (2, 32)]
    with pytest.raises(UserError, match="no weighted sum"):
        stacked(layers)


def test_one_class_and_features_that_are_not_finite_are_one_clear_line(planted) -> None:
    x, y = planted
    with pytest.raises(UserError, match="one class"):
        layer_model(x[:20], np.zeros(20))
    broken = x.copy()
    broken[3, 1, 2] = np.nan
    with pytest.raises(UserError, match="NaN"):
        fit_layers(broken, y, 0.1)
