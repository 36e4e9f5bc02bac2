"""Stems, trunks and convolutional encoders."""

from core.encoders.convnet import ConvNet, parameters, resnet, small_convnet
from core.encoders.encoder import Encoder, TokenEncoder, ValueStem, pool_tokens
from core.encoders.fields import Field, FieldStem
from core.encoders.frames import FrameStem
from core.encoders.items import ItemStem
from core.encoders.patches import PatchStem
from core.encoders.recurrent import GRU, GRUConfig
from core.encoders.transformer import Transformer, TransformerConfig
from core.encoders.waveform import WaveformStem

__all__ = [
    "GRU", "ConvNet", "Encoder", "Field", "FieldStem", "FrameStem", "GRUConfig", "ItemStem", "PatchStem", "TokenEncoder",
    "Transformer", "TransformerConfig", "ValueStem", "WaveformStem", "parameters", "pool_tokens", "resnet", "small_convnet",
]  # fmt: skip
