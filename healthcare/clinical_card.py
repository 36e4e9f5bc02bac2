"""The clinical part of a model card: items of CLAIM (Mongan et al. 2020, updated by Tejani et al. 2024), filled where known.

What the owner of the data alone can know stands in `Facts`, which a toml file gives; what nobody stated is said to be not stated.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError

if TYPE_CHECKING:
    from healthcare.estimators import ImageEncoder

NOT_STATED = "not stated"
LONGEST = 2000  # characters of one fact
WARNING = "Research only. NOT for clinical use: not a medical device, not evaluated for any patient's care."


@dataclass(frozen=True)
class Facts:
    """What only the owner of the data knows; empty where it was not stated.

    Attributes:
        data_source: where the images come from, and when they were taken.
        eligibility: which patients and images were taken, and which were left out.
        demographics: age, sex and whatever else describes the patients.
        deidentification: how the images were made anonymous.
        devices: scanners and protocols.
        reference_standard: what the labels rest on: a biopsy, follow-up, one reader or several.
        annotators: who labelled, how well trained, and how far they agreed.
        missing_data: how missing images and labels were handled.
        ethics: approval or waiver.
        intended_use: the question and the place of the model in the work, of research.
        funding: who paid.
    """

    data_source: str = ""
    eligibility: str = ""
    demographics: str = ""
    deidentification: str = ""
    devices: str = ""
    reference_standard: str = ""
    annotators: str = ""
    missing_data: str = ""
    ethics: str = ""
    intended_use: str = ""
    funding: str = ""

    @classmethod
    def read(cls, path: Path) -> Facts:
        """From a toml file of `item = "text"` lines.

        Raises:
            UserError: no such file, no toml, an item that is not known, or one that is no text.
        """
        try:
            made = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                "the facts cannot be read", where=path, mend='give a toml file of item = "text" lines'
            ) from error
        known = [one.name for one in fields(cls)]
        for name, value in made.items():
            if name not in known or not isinstance(value, str) or len(value) > LONGEST:
                raise UserError(f"no fact '{name}' of that kind", where=path, mend=f"give texts for {', '.join(known)}")
        return cls(**made)


def clinical_card(encoder: ImageEncoder) -> str:
    """Markdown to follow the general card."""
    from healthcare.classifier import ImageClassifier

    lines = ["## Clinical card (CLAIM)", "", f"**{WARNING}**", ""]
    for one in fields(Facts):
        value = " ".join(str(getattr(encoder.facts_, one.name)).split())
        lines.append(f"- {one.name.replace('_', ' ')}: {value or NOT_STATED}")
    reading = encoder.recipe_.reading
    lines += [
        f"- input: images of {encoder.channels_} channel{'s' * (encoder.channels_ > 1)}, resized to {reading.size} pixels a side, aspect ratio not kept",
        f"- pretraining: {encoder.recipe_.method}, without labels, on the training split alone; {encoder.views_:,} views",
        "- patients: split as given or by a hash of the patient; an image is its own patient where none is named",
        "- failure modes: images of another scanner, age group or kind than those trained on; see the report's errors",
    ]
    if isinstance(encoder, ImageClassifier) and hasattr(encoder, "decision_"):
        lines += _classifier(encoder)
    return "\n".join(lines) + "\n"


def _classifier(classifier) -> list[str]:
    decision, names = classifier.decision_, [str(name) for name in classifier.classes_]
    kind = "several findings an image" if decision.several else "one class an image"
    scaling = "temperature " + ", ".join(f"{value:.3g}" for value in decision.temperature)
    scaling += f" and a bias a {'finding' if decision.several else 'class'}" if decision.bias else ""
    lines = [
        "",
        "## Output",
        "",
        f"- {kind}: {', '.join(names)}",
        f"- labelled training images: {classifier.labels_}; "
        + ("the whole network was trained on them" if classifier.tuned_ else "a linear classifier on frozen features"),
        f"- calibration: {scaling}, from {decision.rows} held-out images (Guo et al. 2017, Alexandari et al. 2020)",
        f"- interval of a prediction: {classifier.interval_means()}",
    ]
    for name, points in (decision.points or {}).items():
        for point in points:
            doubt = "" if point.kept else ", too few for the promise: the extreme one was taken"
            lines.append(
                f"- {name}, {point.goal}: above {point.threshold:.4f}, from {point.rows} held-out images{doubt}"
            )
    return lines
