"""`python -m core.peers MODULE SIDE SETTINGS`: one side of one comparison, told by its standard input when to go.

MODULE stands in core.peers, or is a domain's own by its full name.
"""

from __future__ import annotations

import importlib
import json
import sys

import torch

from core.peers.rounds import Rounds

module, side, text = sys.argv[1:]
settings = json.loads(text)
torch.set_num_threads(settings.get("threads", 1))
torch.manual_seed(settings.get("seed", 0))
importlib.import_module(module if "." in module else f"core.peers.{module}").run(side, settings, Rounds())
