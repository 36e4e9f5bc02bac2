"""Settings: every key and value is checked, and a union's part is chosen by its kind."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Literal

import pytest

from core.config import from_dict, settings, to_dict, within
from core.errors import UserError


@dataclass(frozen=True)
class Near:
    kind: Literal["near"] = "near"
    temperature: float = 0.2
    widths: tuple[int, ...] = (256, 128)

    def __post_init__(self) -> None:
        within(self, temperature=(1e-4, 1e3))


@dataclass(frozen=True)
class Far:
    kind: Literal["far"] = "far"
    queue: int = 64
    weight: float | None = None


@dataclass(frozen=True)
class Views:
    local: int = 0


@dataclass(frozen=True)
class Recipe:
    objective: Near | Far = field(default_factory=Near)
    second: Far | None = None
    views: Views = field(default_factory=Views)
    shares: dict[str, float] = field(default_factory=dict)
    steps: int = 10
    clip: float = 1.0
    name: str = "plain"


@dataclass(frozen=True)
class Asks:
    """A setting without default."""

    size: int


RECIPES = [
    Recipe(),
    Recipe(Far(queue=8, weight=0.5), Far(), Views(2), {"a": 0.5}, 3, math.inf, "x"),
    Recipe(Near(temperature=0.05, widths=(4,))),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_with_a_choice_of_methods_goes_through_json(recipe: Recipe) -> None:
    assert from_dict(Recipe, json.loads(json.dumps(to_dict(recipe)))) == recipe


def test_changes_reach_into_the_chosen_kind_and_may_choose_another() -> None:
    changed = settings(Recipe(), ["objective.temperature=0.1", "objective.widths=[8]", "steps=1e3", "clip=inf"])
    assert changed == Recipe(Near(temperature=0.1, widths=(8,)), steps=1000, clip=math.inf)
    other = settings(changed, ["objective.kind=far", "objective.queue=128"])
    assert other.objective == Far(queue=128) and other.steps == 1000
    same = settings(Recipe(Far(queue=8)), ["objective.kind=far", "objective.weight=2"])
    assert same.objective == Far(queue=8, weight=2.0)
    whole = settings(Recipe(), ['objective={"kind": "far", "queue": 4}', 'second={"queue": 2}', 'shares={"a": 1}'])
    assert whole.objective == Far(queue=4) and whole.second == Far(queue=2) and whole.shares == {"a": 1.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("objective.queue=4", r"unknown setting 'objective.queue' \(settings\); known here: kind, temperature, widths"),
        ("objective.kind=nearby", "'nearby' is no kind of 'objective'.*choose from near, far"),
        ('objective={"temperature": 1}', "'objective' does not say its kind.*choose from near, far"),
        ('objective={"kind": ["near"]}', "is no kind of 'objective'"),
        ('objective={"kind": "far", "temprature": 1}', "unknown setting 'objective.temprature'.*known here: kind, queue, weight"),
        ('objective={"kind": "far", "queue": "many"}', "'many' is not a value for 'objective.queue'.*a whole number"),
        ("objective=near", "'near' is not a value for 'objective'.*give a Near or a Far|give Near or Far"),
        ('second={"kind": "near"}', "'near' is not possible for 'second.kind'"),
        ("objective.temperature=NaN", "'nan' is not a value for 'objective.temperature'.*give a number"),
        ("objective.temperature=nan", "'nan' is not a value for 'objective.temperature'"),
        ("objective.temperature=0", "temperature is 0 .*give 0.0001 to 1000"),
        ("objective.temperature=-inf", "temperature is -inf"),
        ("objective.widths=[1, 2.5]", "'2.5' is not a value for 'objective.widths'"),
        ("steps=1.5", "'1.5' is not a value for 'steps'.*give a whole number"),
        ("steps=true", "is not a value for 'steps'"),
        (f"clip=1{'0' * 400}", "…' is not a value for 'clip'"),
        ("steps=", "'' is not a value for 'steps'"),
        ("=3", "unknown setting ''"),
        ("views.local.deep=1", "setting 'local' has no parts"),
        ("steps.__class__=1", "setting 'steps' has no parts"),
        ("shares=[1]", "is not a value for 'shares'"),
        (f"name={'[' * 100_000}", ""),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_one_clear_line(change: str, message: str) -> None:
    if not message:  # whatever cannot be parsed is text
        assert settings(Recipe(), [change]).name.startswith("[[")
        return
    with pytest.raises(UserError, match=message) as caught:
        settings(Recipe(), [change])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_setting_given_whole_and_in_part_is_refused_in_either_order() -> None:
    for changes in (["views.local=1", 'views={"local": 2}'], ['views={"local": 2}', "views.local=1"]):
        with pytest.raises(UserError, match="'views' is given whole and in part"):
            settings(Recipe(), changes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"objective": {"kind": "far", "colour": 1}}, "unknown setting 'objective.colour'.*known here: kind, queue, weight"),
        ({"objective": {}}, "'objective' does not say its kind"),
        ({"objective": None}, "'None' is not a value for 'objective'"),
        ({"views": {"global": 2}}, "unknown setting 'views.global'"),
        ({"views": []}, "is not a value for 'views'"),
        ([], r"'\[\]' is not a value for 'Recipe'"),
        ("x" * 999, "…' is not a value for 'Recipe'"),
    ],
)  # fmt: skip
def test_json_that_describes_no_recipe_is_one_clear_line(data: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_dict(Recipe, data)


def test_a_missing_setting_without_default_is_named() -> None:
    with pytest.raises(UserError, match="setting 'size' is missing"):
        from_dict(Asks, {})
    assert from_dict(Asks, {"size": 3}) == Asks(3)


def test_bounds_refuse_what_lies_outside_and_what_is_no_number() -> None:
    for bad in (0.0, -1.0, 1e9, math.nan, -math.inf):
        with pytest.raises(UserError, match="temperature is"):
            Near(temperature=bad)
    within(Far(weight=None), weight=(0, 1), queue=(1, 64))
