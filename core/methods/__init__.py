"""Self-supervised methods, one a file, each written once and serving every domain whose pretext gives what it eats."""

from core.methods.autoregressive import Autoregressive
from core.methods.barlow import BarlowConfig, BarlowTwins
from core.methods.base import Method, Out
from core.methods.byol import BYOL, BYOLConfig
from core.methods.classifier import Classifier
from core.methods.masked import MaskedPrediction
from core.methods.moco import MoCo, MoCoConfig
from core.methods.simclr import SimCLR, SimCLRConfig
from core.methods.simsiam import SimSiam, SimSiamConfig
from core.methods.vicreg import VICReg, VICRegConfig

__all__ = [
    "Autoregressive",
    "BYOL",
    "BYOLConfig",
    "BarlowConfig",
    "BarlowTwins",
    "Classifier",
    "MaskedPrediction",
    "Method",
    "MoCo",
    "MoCoConfig",
    "Out",
    "SimCLR",
    "SimCLRConfig",
    "SimSiam",
    "SimSiamConfig",
    "VICReg",
    "VICRegConfig",
]
