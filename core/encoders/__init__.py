"""Stems, trunks and convolutional encoders."""

from core.encoders.convnet import ConvNet, parameters, resnet, small_convnet
from core.encoders.encoder import Encoder, TokenEncoder, pool_tokens
from core.encoders.fields import Field, FieldStem
from core.encoders.frames import FrameStem
from core.encoders.items import ItemStem
from core.encoders.patches import PatchStem
from core.encoders.transformer import Transformer, TransformerConfig

__all__ = [
    "ConvNet", "Encoder", "Field", "FieldStem", "FrameStem", "ItemStem", "PatchStem", "TokenEncoder", "Transformer",
    "TransformerConfig", "parameters", "pool_tokens", "resnet", "small_convnet",
]  # fmt: skip
