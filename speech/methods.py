"""Which method belongs to which settings, and what it is made from on recordings: one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from core import methods as m
from core.encoders import Encoder
from core.errors import UserError
from core.heads import LinearHead
from core.pretext import Pretext
from speech.encoders import build_encoder
from speech.tasks import Codes, Reordered

if TYPE_CHECKING:
    from speech.presets import Recipe

Objective = (
    m.SimCLRConfig | m.MoCoConfig | m.BYOLConfig | m.SimSiamConfig | m.BarlowConfig | m.VICRegConfig | m.SwAVConfig
    | m.DINOConfig | m.DeepClusterConfig | m.MaskedConfig | m.MAEConfig | m.Data2VecConfig | m.DenoiseConfig | m.VAEConfig
    | m.CPCConfig | m.PuzzleConfig | m.Wav2Vec2Config | m.HubertConfig
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What a method is made of: an untrained encoder, the recipe, and how many recordings there are to learn from."""

    encoder: Encoder
    recipe: Recipe
    recordings: int

    @property
    def objective(self) -> Any:
        return self.recipe.objective


def _codes(plan: Plan) -> m.Method:
    if not isinstance(plan.recipe.pretext, Codes):
        raise UserError("masked prediction needs codes to predict", where="pretext", mend="use bestrq's, or mae")
    head = LinearHead(plan.recipe.encoder.dim, plan.recipe.quantiser.codes)
    return m.MaskedPrediction(plan.encoder, {"code": head}, books={"code": plan.recipe.quantiser.codes})


def _puzzle(plan: Plan) -> m.Method:
    if not isinstance(plan.recipe.pretext, Reordered):
        raise UserError("no puzzle in this pretext", where="pretext", mend="use order's")
    return m.PretextClassifier(plan.encoder, replace(plan.objective, classes=plan.recipe.pretext.classes))


SPECIAL: Mapping[type, Callable[[Plan], m.Method]] = {  # the others: core.methods.plain
    m.DeepClusterConfig: lambda plan: m.DeepCluster(plan.encoder, plan.recordings, plan.objective),
    m.MaskedConfig: _codes,
    m.PuzzleConfig: _puzzle,
}


def pretext_for(settings: Recipe, recordings: int) -> tuple[m.Method, Pretext]:
    """The method, with a fresh encoder drawn from torch's generator, and the pretext that it eats.

    Args:
        recordings: how many there are to learn from.

    Raises:
        UserError: settings that do not fit together, such as hidden frames on a convolutional net.
    """
    plan = Plan(build_encoder(settings.encoder, settings.mel.bands), settings, recordings)
    return m.method_of(plan, SPECIAL), settings.pretext.bound(settings)
