"""How much of a codebook is in use: quantisers, clusters, prototypes and units, counted once when the training is done."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from core.assignments import perplexity
from core.batches import SequenceBatches
from core.evaluation import Section
from core.features import Prepare
from core.methods.base import Method
from core.monitors import SIGNS
from core.pretext import Pretext
from core.tokens import Batch, to_device
from speech.pretext import QuantisedFrames

MOST_ROWS = 1024  # recordings that are looked at
FEW = 0.2  # share of a book, by perplexity, below which the report names a cure
CURES = {"bestrq": "usage_targets", "wav2vec2": "usage_codes", "hubert": "usage_units"}  # the others: usage
NAMES = {
    "bestrq": "random codes of frames, fixed: what was predicted", "wav2vec2": "learned codes of the waveform",
    "hubert": "units of frames, found by k-means: what was predicted", "deepcluster": "clusters of recordings",
    "swav": "prototypes of recordings", "dino": "prototypes of recordings",
}  # fmt: skip


@torch.no_grad()
def census(method: Method, pretext: Pretext, batches: SequenceBatches, prepare: Prepare) -> list[dict[str, Any]]:
    """For each book its `codes`, how many of them are `used`, their `perplexity`, and the `places` and `recordings` counted; empty
    for a method without codes."""
    rows = np.unique(np.linspace(0, batches.rows - 1, min(MOST_ROWS, batches.rows)).astype(np.int64))
    device = next(method.parameters()).device
    method.eval()
    counts, places = None, 0
    for part in np.array_split(rows, max(1, len(rows) // 64)):
        batch = to_device(batches.at(part), device)
        found = _codes(method, pretext, batch, prepare)
        if found is None:
            return []
        code, size = found
        drawn = torch.stack([group.bincount(minlength=size) for group in code.T])  # (G, V)
        counts = drawn if counts is None else counts + drawn
        places += len(code)
    if counts is None or not places:
        return []
    return [
        {
            "codes": book.numel(), "used": int((book > 0).sum()), "perplexity": round(float(perplexity(book)), 2), "places": places,
            "recordings": len(rows),
        }
        for book in counts.cpu()
    ]  # fmt: skip


def _codes(method: Method, pretext: Pretext, batch: Batch, prepare: Prepare) -> tuple[torch.Tensor, int] | None:
    if isinstance(pretext, QuantisedFrames):
        code = pretext.codes(batch)
        return code[code >= 0][:, None], pretext.config.codes
    carried: Batch = {name: batch[name] for name in ("index", "unit") if name in batch}
    return method.codes({**carried, **prepare(batch)})


def codebook_section(method: str, books: list[dict[str, Any]], seen: bool = True) -> Section | None:
    """The table of `census`; None for a method without codes. `seen`: whether the run, which may be an older one, says anything."""
    if not books:
        if not seen and method in NAMES:
            return Section("Codes in use", "This run was made before codes were counted: pretrain again to see them.")
        return None
    rows = tuple(
        (
            f"{NAMES.get(method, 'codes')}" + (f", book {number + 1}" if len(books) > 1 else ""), book["codes"],
            f"{book['used'] / book['codes']:.0%}", f"{book['perplexity']:.1f}", f"{book['perplexity'] / book['codes']:.0%}", f"{book['places']:,}",
        )
        for number, book in enumerate(books)
    )  # fmt: skip
    low = min(book["perplexity"] / min(book["codes"], max(1, book["places"])) for book in books)
    text = (
        "Perplexity is how many codes it would be if all in use were used alike: a book of which few codes are used asks little. "
        f"Counted on {books[0]['recordings']:,} training recordings when the training was done."
    )
    if low < FEW:
        text += f" Few of these are in use. To try: {SIGNS[CURES.get(method, 'usage')].cure}."
    return Section(
        "Codes in use", text, ("", "codes", "used at all", "perplexity", "share of the codes", "counted"), rows
    )
