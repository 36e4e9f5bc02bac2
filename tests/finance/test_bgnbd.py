"""BG/NBD and Gamma-Gamma: what was published of them comes out, and what they generate is found again."""

from __future__ import annotations

import os
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from core.errors import UserError
from finance.bgnbd import BGNBD, Counts, GammaGamma
from finance.cdnow import DATA, Customers
from finance.data import KNOWN, read

PUBLISHED = BGNBD(0.243, 4.414, 0.793, 2.426)  # Fader, Hardie and Lee 2005, table 2: a tenth of CDNOW's customers
PUBLISHED_MONEY = GammaGamma(6.25, 3.74, 15.44)  # Fader and Hardie 2013: the same customers' repeat purchases


def simulated(customers: int, age: float, span: float, random: np.random.Generator) -> tuple[Counts, np.ndarray]:
    """Customers of the published parameters up to `age`, and how often each buys in the next `span` of time."""
    m = PUBLISHED
    rates = random.gamma(m.r, 1 / m.alpha, customers)
    leave = random.beta(m.a, m.b, customers)
    repeats, recency, later = np.zeros(customers), np.zeros(customers), np.zeros(customers)
    for i, rate in enumerate(rates):
        now = random.exponential(1 / rate)
        while now < age + span:
            if now <= age:
                repeats[i], recency[i] = repeats[i] + 1, now
            else:
                later[i] += 1
            if random.random() < leave[i]:
                break
            now += random.exponential(1 / rate)
    return Counts(repeats, recency, np.full(customers, age)), later


def test_the_published_customer_is_expected_to_buy_as_published() -> None:
    known = Counts(
        np.array([2.0]), np.array([30.43]), np.array([38.86])
    )  # the first customer of the authors' spreadsheet
    assert PUBLISHED.expected(known, 39.0)[0] == pytest.approx(1.226, abs=5e-4)


def test_generated_customers_behave_as_told_and_give_the_parameters_back(random: np.random.Generator) -> None:
    known, later = simulated(12_000, 39.0, 39.0, random)
    assert PUBLISHED.expected(known, 39.0).mean() == pytest.approx(later.mean(), rel=0.06)
    assert PUBLISHED.silent(known, 39.0).mean() == pytest.approx((later == 0).mean(), abs=0.01)
    again = known.repeats >= 2
    assert PUBLISHED.silent(known, 39.0)[again].mean() == pytest.approx((later[again] == 0).mean(), abs=0.04)
    found = BGNBD.fit(known)
    assert found.r == pytest.approx(PUBLISHED.r, rel=0.12) and found.alpha == pytest.approx(PUBLISHED.alpha, rel=0.15)
    assert found.a / (found.a + found.b) == pytest.approx(PUBLISHED.a / (PUBLISHED.a + PUBLISHED.b), rel=0.12)


def test_nobody_has_left_who_never_came_back_and_silence_makes_leaving_likely() -> None:
    known = Counts(
        np.array([0.0, 5.0, 5.0, 5.0]), np.array([0.0, 10.0, 10.0, 10.0]), np.array([30.0, 10.0, 15.0, 30.0])
    )
    active = PUBLISHED.active(known)
    assert active[0] == 1 and (np.diff(active[1:]) < 0).all()


def test_purchases_before_the_first_are_refused() -> None:
    with pytest.raises(UserError, match="customer 1"):
        Counts(np.array([0.0, 1.0]), np.array([0.0, 9.0]), np.array([5.0, 5.0]))


def test_gamma_gamma_finds_what_generated_amounts_and_shrinks_means(random: np.random.Generator) -> None:
    m = PUBLISHED_MONEY
    purchases = random.integers(1, 8, 8000).astype(float)
    mean = random.gamma(m.p * purchases, 1 / (random.gamma(m.q, 1 / m.gamma, 8000) * purchases))
    found = GammaGamma.fit(purchases, mean)
    np.testing.assert_allclose(astuple(found), astuple(m), rtol=0.15)
    few, many = found.expected(np.array([1.0, 50.0]), np.array([200.0, 200.0]))
    assert mean.mean() < few < many < 200


@pytest.mark.skipif(
    not (Path(os.environ.get("TACIT_DATA", "/nowhere")) / KNOWN[DATA].folder).exists(),
    reason="cdnow_purchases is not there",
)
def test_cdnow_gives_the_published_parameters() -> None:
    """Those are of a tenth of the customers, which nobody marked: all of them are nearly as likely under these as under their own."""
    customers = Customers(read(DATA))
    found = BGNBD.fit(customers.counts)
    np.testing.assert_allclose(astuple(found), astuple(PUBLISHED), rtol=0.12)
    lost = found.log_likelihood(customers.counts).mean() - PUBLISHED.log_likelihood(customers.counts).mean()
    assert 0 <= lost < 5e-4
    days = customers.days[customers.days.duplicated("customer")]  # repeat purchases
    spent = days.groupby("customer")["amount"].agg(["size", "mean"]).query("mean > 0").to_numpy(dtype=float)
    np.testing.assert_allclose(astuple(GammaGamma.fit(*spent.T)), astuple(PUBLISHED_MONEY), rtol=0.1)
