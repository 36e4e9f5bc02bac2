"""A small generated set, read once, and a quick recipe."""

from dataclasses import replace

import pytest


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def spoken(tmp_path_factory):
    """A folder of 120 recordings: 6 voices, 10 words."""
    from speech.synthetic import SynthConfig, generate

    return generate(tmp_path_factory.mktemp("spoken") / "data", SynthConfig(size=120, speakers=6, seed=3))


@pytest.fixture(scope="session")
def recordings(spoken):
    """The same, as log-mel."""
    from speech.estimators import AudioEncoder

    return AudioEncoder("simclr").read(spoken)


@pytest.fixture(scope="session")
def small():
    """SimCLR with a net that trains in a second."""
    from speech.encoders import EncoderConfig
    from speech.presets import recipe
    from speech.pretext import ViewConfig

    return replace(
        recipe("simclr"),
        encoder=EncoderConfig(width=4, features=16, segments=2),
        views=ViewConfig(frames=16),
        batch_size=16,
    )


@pytest.fixture(scope="session")
def fitted(recordings, small):
    """An encoder pretrained on the training voices for a moment."""
    from speech.estimators import AudioEncoder
    from speech.protocol import split

    held = split(recordings)
    return AudioEncoder(small, steps=8, seed=1).fit(recordings.select(held.train), note=lambda line: None)
