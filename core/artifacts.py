"""The run folder: weights as safetensors, everything else as JSON and text; nothing is ever unpickled.

A run is written beside its final name and renamed, so that a kill or a full disk leaves the old one whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from core import __version__
from core.errors import UserError
from core.files import cannot_write

FORMAT = 1


@dataclass(frozen=True)
class Run:
    """A loaded run folder."""

    path: Path
    config: dict[str, Any]
    encoder: dict[str, Tensor]
    heads: dict[str, Tensor]

    @property
    def newer(self) -> bool:
        """Whether a later tacit wrote it."""
        return _version(self.config.get("tacit")) > _version(__version__)


def working_folder(out: Path) -> Path:
    """Where a run lives while it trains; it becomes `out` when it is done."""
    return out.with_name(out.name + ".partial")


def check_place(out: Path) -> None:
    """Raise where a run could not be saved later: better before the training than after it.

    Raises:
        UserError: a file, a folder that holds something else, or a place that cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise UserError("that is a file, and a run is a folder", where=out, mend="give another --out")
    if out.exists() and not (out / "config.json").exists() and any(out.iterdir()):
        raise UserError("that folder holds something that is no run", where=out, mend="give another --out")
    try:
        working_folder(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write("the run", out, error) from error


def save_run(
    out: Path, domain: str, config: dict[str, Any], encoder: nn.Module, heads: nn.Module | None = None, card: str = ""
) -> Path:
    """Write `config.json`, `encoder.safetensors`, `heads.safetensors`, `card.md`; metrics and resume state of the
    working folder move along once the run is there.

    Raises:
        UserError: the disk is full or `out` cannot be written; what was there stays whole, the working folder too.
    """
    from safetensors.torch import save

    out = Path(out)
    check_place(out)
    fresh, old, working = out.with_name(f"{out.name}.new"), out.with_name(f"{out.name}.old"), working_folder(out)
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        hashes = {}
        for name, module in (("encoder.safetensors", encoder), ("heads.safetensors", heads)):
            content = save(
                _plain(module)
            )  # through memory: Python says why it cannot write, safetensors' own writer does not
            (fresh / name).write_bytes(content)
            hashes[name] = hashlib.sha256(content).hexdigest()
        whole = {"format": FORMAT, "tacit": __version__, "domain": domain, "sha256": hashes, **config}
        (fresh / "config.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        (fresh / "card.md").write_text(card, encoding="utf-8")
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(out, old)
        os.replace(fresh, out)
        for name in ("metrics.jsonl", "tensorboard", "resume"):
            if (working / name).exists():
                os.replace(working / name, out / name)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(working, ignore_errors=True)
    except OSError as error:
        if not out.exists() and old.exists():
            os.replace(old, out)
        shutil.rmtree(fresh, ignore_errors=True)
        with suppress(OSError):
            working.rmdir()  # where it is empty: made by check_place, not by a training
        raise cannot_write("the run", out, error) from error
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
    except (ValueError, RecursionError) as error:
        raise UserError("config.json is damaged", where=path, mend="pretrain again") from error
    if not isinstance(config, dict) or not isinstance(config.get("format"), int):
        raise UserError("config.json is not one of ours", where=path, mend="pretrain again")
    if config["format"] > FORMAT:
        raise UserError(
            f"the run was written by a newer version (format {config['format']})", where=path, mend="update tacit"
        )
    if config.get("domain") != domain:
        raise UserError(f"the run belongs to {config.get('domain')}", where=path, mend=f"give a run of tacit-{domain}")
    weights, hashes = {}, config.get("sha256")
    for name in ("encoder.safetensors", "heads.safetensors"):
        content = (path / name).read_bytes() if (path / name).is_file() else b""
        try:
            if not isinstance(hashes, dict) or hashlib.sha256(content).hexdigest() != hashes.get(name):
                raise ValueError(name)
            weights[name] = load(content)
        except Exception as error:  # safetensors raises many kinds for a damaged file
            raise UserError(
                f"{name} is missing, truncated or was changed", where=path, mend="pretrain again"
            ) from error
    return Run(path, config, weights["encoder.safetensors"], weights["heads.safetensors"])


def _plain(module: nn.Module | None) -> dict[str, Tensor]:
    """A module's state on the CPU, each tensor in its own memory."""
    if module is None:
        return {}
    return {name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}


def _version(text: Any) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", str(text))))
