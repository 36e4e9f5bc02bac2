"""Which method belongs to which settings: most are made of an encoder and their settings alone, a domain says how to make the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.methods.barlow import BarlowConfig, BarlowTwins
from core.methods.base import Method
from core.methods.byol import BYOL, BYOLConfig
from core.methods.coles import CoLES, CoLESConfig
from core.methods.cpc import CPC, CPCConfig
from core.methods.data2vec import Data2Vec, Data2VecConfig
from core.methods.denoise import DenoiseConfig, DenoisingAutoencoder
from core.methods.dino import DINO, DINOConfig
from core.methods.hubert import Hubert, HubertConfig
from core.methods.labels import TokenLabels, TokenLabelsConfig
from core.methods.mae import MAEConfig, MaskedAutoencoder
from core.methods.moco import MoCo, MoCoConfig
from core.methods.position import Position, PositionConfig
from core.methods.simclr import SimCLR, SimCLRConfig
from core.methods.simsiam import SimSiam, SimSiamConfig
from core.methods.swav import SwAV, SwAVConfig
from core.methods.vae import VAEConfig, VariationalAutoencoder
from core.methods.vicreg import VICReg, VICRegConfig
from core.methods.wav2vec2 import Wav2Vec2, Wav2Vec2Config

PLAIN: Mapping[type, Callable[..., Method]] = {
    BarlowConfig: BarlowTwins, BYOLConfig: BYOL, CoLESConfig: CoLES, CPCConfig: CPC, Data2VecConfig: Data2Vec, DenoiseConfig: DenoisingAutoencoder,
    DINOConfig: DINO, MAEConfig: MaskedAutoencoder, MoCoConfig: MoCo, PositionConfig: Position, SimCLRConfig: SimCLR, SimSiamConfig: SimSiam,
    SwAVConfig: SwAV, TokenLabelsConfig: TokenLabels, VAEConfig: VariationalAutoencoder, VICRegConfig: VICReg,
    Wav2Vec2Config: Wav2Vec2, HubertConfig: Hubert,
}  # fmt: skip


def method_of(plan: Any, special: Mapping[type, Callable[[Any], Method]]) -> Method:
    """The method of a plan, which has at least an `encoder` and an `objective`: the method's settings.

    Args:
        special: by the kind of settings, how to make what needs more of the plan than those two.

    Raises:
        UserError: settings and encoder that do not fit together.
    """
    kind = type(plan.objective)
    return special[kind](plan) if kind in special else PLAIN[kind](plan.encoder, plan.objective)
