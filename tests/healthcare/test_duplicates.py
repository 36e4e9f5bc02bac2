"""Copies, exact and near, are found; images that merely resemble each other are not."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from healthcare.audit import audit, fingerprints
from healthcare.data import Reading, scan
from healthcare.duplicates import DISTANCE, candidates, hashes, near_copies
from healthcare.synthetic import CohortConfig, generate


def pictures(count: int = 200, side: int = 28) -> np.ndarray:
    return (generate(CohortConfig(images=count, size=side), seed=5).pixels / 255).astype(np.float32)[:, None]


def saved_again(image: np.ndarray, quality: int = 75) -> np.ndarray:
    kept = io.BytesIO()
    Image.fromarray((image * 255).astype(np.uint8)).save(kept, "JPEG", quality=quality)
    return np.asarray(Image.open(kept)).astype(np.float32) / 255


CHANGES = {
    "JPEG": saved_again,
    "brighter": lambda image: np.clip(image * 0.8 + 0.15, 0, 1),
    "noise": lambda image: image + np.random.default_rng(0).normal(0, 0.004, image.shape).astype(np.float32),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_copy_is_found_beside_its_original(name: str) -> None:
    pixels = pictures()
    copies = np.stack([CHANGES[name](image)[None] for image in pixels[:20, 0]]).astype(np.float32)
    found = near_copies(np.concatenate([pixels, copies]))
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert sum((i, 200 + i) in pairs for i in range(20)) >= 19
    assert found.correlation.min() >= 0.97


def test_candidates_are_those_of_comparing_all_with_all() -> None:
    random = np.random.default_rng(1)
    base = random.integers(0, 2**63, 60, dtype=np.uint64)
    flips = np.array(
        [sum(1 << int(b) for b in random.choice(63, k, replace=False)) for k in random.integers(0, 10, 240)], np.uint64
    )
    made = np.concatenate([base, np.repeat(base, 4) ^ flips])
    first, second = candidates(made)
    close = np.bitwise_count(made[:, None] ^ made[None]) <= DISTANCE
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == set(
        zip(*np.nonzero(np.triu(close, 1)), strict=True)
    )


def test_volumes_have_near_copies_too() -> None:
    cubes = np.stack([pictures(24, 16)[i : i + 4, 0] for i in range(0, 12, 4)])[:, None]  # (3, 1, 4, 16, 16)
    cubes = np.repeat(cubes, 4, axis=2)
    found = near_copies(np.concatenate([cubes, cubes[:1] * 0.9 + 0.05]))
    assert (0, 3) in zip(found.first.tolist(), found.second.tolist(), strict=True)


def test_the_audit_counts_near_copies_apart_from_exact_ones() -> None:
    pixels = pictures(60)
    twin = np.clip(pixels[:1] * 0.9 + 0.05, 0, 1)
    every = np.concatenate([pixels, pixels[:1], twin])
    split = np.array(["train"] * 60 + ["train", "test"])
    found, copies = audit(fingerprints(every), split, np.zeros(62, np.int64), None, every)
    alone, _ = audit(fingerprints(pixels), split[:60], np.zeros(60, np.int64), None, pixels)
    assert found.surplus_copies == 1 and alone.surplus_copies == 0
    assert found.near_copies - alone.near_copies == 1 and found.near_copies_across_splits == 1
    assert {(c.row, c.of) for c in copies if c.correlation == 1 and c.row == 60} == {(60, 0)}


def test_an_image_alone_and_none_at_all_have_no_copies() -> None:
    for count in (0, 1):
        pixels = pictures(20)[:count]
        assert not len(near_copies(pixels).first) and hashes(pixels).shape == (count,)


def there(name: str) -> bool:
    return (Path(os.environ.get("TACIT_DATA", "/nowhere")) / "healthcare" / name).exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("pneumoniamnist", {"surplus_copies": 29, "held_out_copies": 8, "near_copies": 0}), ("brain_tumor_mri_64", {"held_out_copies": 251})],
)  # fmt: skip
def test_the_known_leaks_of_published_sets_are_found_in_five_seconds(name: str, expected: dict[str, int]) -> None:
    if not there(name):
        pytest.skip(f"{name} is not under TACIT_DATA")
    started = time.process_time()
    images = scan(name, Reading(size=28))
    assert time.process_time() - started < 5
    assert {key: images.audit.json()[key] for key in expected} == expected
    assert not {p.tobytes() for p in images.pixels[images.rows("train")]} & {
        p.tobytes() for p in images.pixels[images.rows("test")]
    }
