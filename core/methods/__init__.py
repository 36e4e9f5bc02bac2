"""Self-supervised methods, one a file, each written once and serving every domain whose pretext gives what it eats."""

from core.methods.autoregressive import Autoregressive, AutoregressiveConfig
from core.methods.barlow import BarlowConfig, BarlowTwins
from core.methods.base import Method, Out
from core.methods.byol import BYOL, BYOLConfig
from core.methods.classifier import Classifier
from core.methods.coles import CoLES, CoLESConfig
from core.methods.cpc import CPC, CPCConfig
from core.methods.data2vec import Data2Vec, Data2VecConfig
from core.methods.deepcluster import DeepCluster, DeepClusterConfig
from core.methods.denoise import DenoiseConfig, DenoisingAutoencoder
from core.methods.dino import DINO, DINOConfig
from core.methods.hubert import Hubert, HubertConfig
from core.methods.joint import Joint, JointConfig, Part
from core.methods.labels import TokenLabels, TokenLabelsConfig
from core.methods.mae import MAEConfig, MaskedAutoencoder
from core.methods.masked import MaskedConfig, MaskedPrediction
from core.methods.moco import MoCo, MoCoConfig
from core.methods.plain import method_of
from core.methods.position import Position, PositionConfig
from core.methods.puzzle import PretextClassifier, PuzzleConfig
from core.methods.simclr import SimCLR, SimCLRConfig
from core.methods.simsiam import SimSiam, SimSiamConfig
from core.methods.swav import SwAV, SwAVConfig
from core.methods.vae import VAEConfig, VariationalAutoencoder
from core.methods.vicreg import VICReg, VICRegConfig
from core.methods.wav2vec2 import Wav2Vec2, Wav2Vec2Config

__all__ = [
    "Autoregressive",
    "AutoregressiveConfig",
    "BYOL",
    "BYOLConfig",
    "BarlowConfig",
    "BarlowTwins",
    "CPC",
    "CPCConfig",
    "Classifier",
    "CoLES",
    "CoLESConfig",
    "DINO",
    "DINOConfig",
    "Data2Vec",
    "Data2VecConfig",
    "DeepCluster",
    "DeepClusterConfig",
    "DenoiseConfig",
    "DenoisingAutoencoder",
    "Hubert",
    "HubertConfig",
    "Joint",
    "JointConfig",
    "MAEConfig",
    "MaskedAutoencoder",
    "MaskedConfig",
    "MaskedPrediction",
    "Method",
    "MoCo",
    "MoCoConfig",
    "Out",
    "Part",
    "Position",
    "PositionConfig",
    "PretextClassifier",
    "PuzzleConfig",
    "SimCLR",
    "SimCLRConfig",
    "SimSiam",
    "SimSiamConfig",
    "SwAV",
    "SwAVConfig",
    "TokenLabels",
    "TokenLabelsConfig",
    "VAEConfig",
    "VICReg",
    "VICRegConfig",
    "VariationalAutoencoder",
    "Wav2Vec2",
    "Wav2Vec2Config",
    "method_of",
]
