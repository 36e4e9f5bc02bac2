"""Tacit's shared core: encoders, losses, self-supervised methods, training and honest evaluation.

Core knows no domain. Nothing heavy is imported here, so that command lines answer at once.
"""

DISTRIBUTION = "tacit"  # domains check this mark: another package named `core` may stand first on the path
__version__ = "0.1.0"
