"""The run folder: weights as safetensors, everything else as JSON and text; nothing is ever unpickled.

A run is written beside its final name and renamed, so that a kill or a full disk leaves the old one whole.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from core import __version__
from core.datasets import sha256
from core.errors import UserError

FORMAT = 1


@dataclass(frozen=True)
class Run:
    """A loaded run folder."""

    path: Path
    config: dict[str, Any]
    encoder: dict[str, Tensor]
    heads: dict[str, Tensor]


def working_folder(out: Path) -> Path:
    """Where a run lives while it trains; it becomes `out` when it is done."""
    return out.with_name(out.name + ".partial")


def save_run(
    out: Path, domain: str, config: dict[str, Any], encoder: nn.Module, heads: nn.Module | None = None, card: str = ""
) -> Path:
    """Write `config.json`, `encoder.safetensors`, `heads.safetensors`, `card.md`; metrics and resume state of the
    working folder move along.

    Raises:
        UserError: the disk is full or `out` cannot be written; what was there stays whole.
    """
    from safetensors.torch import save_file

    out = Path(out)
    fresh, old, working = out.with_name(f"{out.name}.new"), out.with_name(f"{out.name}.old"), working_folder(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        save_file(_plain(encoder), fresh / "encoder.safetensors")
        save_file(_plain(heads), fresh / "heads.safetensors")
        hashes = {name: sha256(fresh / name) for name in ("encoder.safetensors", "heads.safetensors")}
        whole = {"format": FORMAT, "tacit": __version__, "domain": domain, "sha256": hashes, **config}
        (fresh / "config.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        (fresh / "card.md").write_text(card, encoding="utf-8")
        if working.exists():
            for name in ("metrics.jsonl", "tensorboard", "resume"):
                if (working / name).exists():
                    shutil.move(str(working / name), str(fresh / name))
        if out.exists():
            if not (out / "config.json").exists() and any(out.iterdir()):
                raise UserError("that folder holds something that is no run", where=out, mend="give another --out")
            shutil.rmtree(old, ignore_errors=True)
            os.replace(out, old)
        os.replace(fresh, out)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(working, ignore_errors=True)
    except OSError as error:
        if not out.exists() and old.exists():
            os.replace(old, out)
        shutil.rmtree(fresh, ignore_errors=True)
        raise UserError(f"the run could not be saved: {error.strerror or error}", where=out, mend="free some space, or give another --out") from error  # fmt: skip
    return out


def load_run(path: str | Path, domain: str) -> Run:
    """Read a run folder back.

    Raises:
        UserError: no run there, another domain's, a newer format, or files that are truncated or were tampered with.
    """
    from safetensors.torch import load

    path = Path(path)
    old = path.with_name(f"{path.name}.old")
    if not path.exists() and (old / "config.json").exists():  # killed between the two renames of save_run
        os.replace(old, path)
    if not (path / "config.json").exists():
        raise UserError("no run there", where=path, mend=f"make one with tacit-{domain} pretrain --out {path.name}")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError("config.json is damaged", where=path, mend="pretrain again") from error
    if not isinstance(config, dict) or not isinstance(config.get("format"), int):
        raise UserError("config.json is not one of ours", where=path, mend="pretrain again")
    if config["format"] > FORMAT:
        raise UserError(
            f"the run was written by a newer version (format {config['format']})", where=path, mend="update tacit"
        )
    if config.get("domain") != domain:
        raise UserError(f"the run belongs to {config.get('domain')}", where=path, mend=f"give a run of tacit-{domain}")
    weights = {}
    for name in ("encoder.safetensors", "heads.safetensors"):
        file = path / name
        if not file.exists() or sha256(file) != config.get("sha256", {}).get(name):
            raise UserError(f"{name} is missing, truncated or was changed", where=path, mend="pretrain again")
        weights[name] = load(file.read_bytes())
    return Run(path, config, weights["encoder.safetensors"], weights["heads.safetensors"])


def _plain(module: nn.Module | None) -> dict[str, Tensor]:
    """A module's state on the CPU, each tensor in its own memory."""
    if module is None:
        return {}
    return {name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}
