"""A session read by numpy gives what torch gives, and follows the encoder's weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.codec import FIRST, MISSING
from core.encoders import ItemStem, TokenEncoder, Transformer, TransformerConfig
from recsys import Sequences, SessionRecommender
from recsys.encoders import ModelConfig, build_encoder
from recsys.reader import SessionReader

ITEMS = 40


def encoder(norm: bool = True, **shape: object) -> TokenEncoder:
    torch.manual_seed(0)
    config = TransformerConfig(dim=16, causal=True, max_length=9, **shape)  # type: ignore[arg-type]
    made = TokenEncoder(ItemStem(ITEMS, 16, norm=norm), Transformer(config), pool="last").eval()
    for weight in made.parameters():  # as training leaves them: no norm is the identity, no bias zero
        torch.nn.init.normal_(weight, std=0.3)
    return made


def embedded(made: TokenEncoder, items: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return made.embed({"item": torch.from_numpy(items)[None]})[0].numpy()


def read(made: TokenEncoder, items: np.ndarray) -> np.ndarray:
    reader = SessionReader.of(made)
    assert reader is not None
    return reader.state(items)


def some(length: int) -> np.ndarray:
    return np.random.default_rng(length).integers(FIRST, ITEMS, length)


@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize(
    "shape",
    [
        {"depth": 1},
        {"depth": 3, "heads": 4},
        {"depth": 2, "heads": 1, "mlp": 1.5},
        {"position": "none"},
        {"norm": False},
    ],
)
def test_the_state_is_that_of_torch(shape: dict, length: int) -> None:
    made, items = encoder(**shape), some(length)
    np.testing.assert_allclose(read(made, items), embedded(made, items), rtol=1e-4, atol=1e-5)


def test_it_sees_a_step_of_training_at_once() -> None:
    made, items = encoder(), some(5)
    reader = SessionReader.of(made)
    assert reader is not None
    before = reader.state(items)
    step = torch.optim.AdamW(made.parameters(), lr=0.1, fused=True)
    made.train().embed({"item": torch.from_numpy(items)[None]}).sum().backward()
    step.step()
    made.eval()
    assert not np.allclose(before, reader.state(items), atol=1e-3)
    np.testing.assert_allclose(reader.state(items), embedded(made, items), rtol=1e-4, atol=1e-5)


def test_weights_that_were_moved_are_looked_for_anew() -> None:
    made = encoder()
    reader = SessionReader.of(made)
    assert reader is not None and reader.current(made)
    made.double().float()
    assert not reader.current(made)


@pytest.mark.parametrize("model", [ModelConfig(trunk="gru"), ModelConfig(causal=False), ModelConfig(pool="mean")])
def test_what_it_cannot_read_is_left_to_torch(model: ModelConfig) -> None:
    assert SessionReader.of(build_encoder(ITEMS, model)) is None
    assert SessionReader.of(build_encoder(ITEMS, ModelConfig()).bfloat16()) is None


@pytest.mark.parametrize("method", ["next", "gru4rec", "bert4rec"])
def test_a_session_by_itself_has_the_state_that_it_has_among_others(method: str) -> None:
    lists = [[f"i{(start + step) % 9}" for step in range(3 + start % 4)] for start in range(30)]
    history = Sequences.of(lists)
    model = SessionRecommender(method, steps=3, changes=("model.length=4",)).fit_sequences(history)
    history.items[4] = MISSING
    together = model.hidden(history)
    for row in (0, 1, 7):
        np.testing.assert_allclose(model.hidden(history.select([row]))[0], together[row], rtol=1e-4, atol=1e-5)


def test_another_encoder_in_its_place_is_read_anew() -> None:
    history = Sequences.of([["a", "b", "c"]] * 5)
    one, other = (SessionRecommender(steps=2, seed=seed).fit_sequences(history) for seed in (0, 1))
    single = history.select([0])
    before = one.hidden(single)
    one.encoder_ = other.encoder_
    assert not np.allclose(before, one.hidden(single))
    np.testing.assert_array_equal(one.hidden(single), other.hidden(single))
