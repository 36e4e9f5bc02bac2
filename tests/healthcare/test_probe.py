"""The probe: as simple as the labels allow, chosen inside them."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import UserError
from healthcare.linear import fit_probe


def planted(random: np.random.Generator, n: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    label = np.arange(n) % 2
    x = random.normal(size=(n, 20))
    x[:, 0] += strength * label
    return x, label


def test_the_probe_learns_and_two_labels_are_enough(random: np.random.Generator) -> None:
    x, label = planted(random, 200, 5.0)
    assert (fit_probe(x[:100], label[:100]).predict(x[100:]) == label[100:]).mean() > 0.85
    assert fit_probe(x[:2], label[:2]).predict_proba(x).shape == (200, 2)
    assert fit_probe(x[:100], label[:100], np.arange(100) // 2 * 2).predict_proba(x).shape == (200, 2)


def test_one_class_stops_with_one_line(random: np.random.Generator) -> None:
    with pytest.raises(UserError, match="one class only"):
        fit_probe(random.normal(size=(9, 3)), np.zeros(9, int))
