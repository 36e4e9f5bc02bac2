"""Self-supervised methods, one a file, each written once and serving every domain whose pretext gives what it eats."""

from core.methods.autoregressive import Autoregressive
from core.methods.base import Method, Out
from core.methods.classifier import Classifier
from core.methods.masked import MaskedPrediction
from core.methods.simclr import SimCLR, SimCLRConfig

__all__ = ["Autoregressive", "Classifier", "MaskedPrediction", "Method", "Out", "SimCLR", "SimCLRConfig"]
