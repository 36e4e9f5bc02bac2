"""Collapse: the monitors fire on encoders that tell nothing, stay quiet on healthy ones, and change nothing of the training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.batches import ArrayBatches
from core.encoders import Encoder, small_convnet
from core.errors import UserError
from core.features import features
from core.losses import negative_cosine
from core.methods import Classifier, Method, SimCLR
from core.methods.base import Out
from core.monitors import Monitor, knn_accuracy
from core.pretext import Pseudo, Views
from core.tokens import Batch
from core.training import TrainConfig, train

CPU = torch.device("cpu")


class Fixed(Encoder):
    """Features as a function of the rows, without parameters that matter."""

    def __init__(self, dim: int, kind: str) -> None:
        super().__init__()
        self.dim, self.kind = dim, kind
        self.spread = nn.Parameter(torch.randn(4, dim, generator=torch.Generator().manual_seed(1)))

    def embed(self, batch: Batch) -> Tensor:
        x = batch["x"]
        if self.kind == "constant":
            return torch.ones(len(x), self.dim)
        if self.kind == "rank one":
            return x[:, :1] * self.spread[:1] + 1e-5 * x @ self.spread
        return torch.tanh(x @ self.spread)


def rows(count: int = 300) -> ArrayBatches:
    draw = np.random.default_rng(0)
    label = draw.integers(0, 3, count)
    x = draw.standard_normal((count, 4)).astype(np.float32) + 3 * np.eye(3, 4, dtype=np.float32)[label]
    return ArrayBatches({"x": x, "label": label}, 32)


def images() -> ArrayBatches:
    """Blobs at one of four places: what SimCLR learns in seconds."""
    draw = np.random.default_rng(0)
    place = draw.integers(0, 4, 256)
    image = 0.3 * draw.standard_normal((256, 1, 16, 16)).astype(np.float32)
    for i, p in enumerate(place):
        image[i, 0, 8 * (p // 2) : 8 * (p // 2) + 8, 8 * (p % 2) : 8 * (p % 2) + 8] += 1.0
    return ArrayBatches({"image": image, "label": place}, 32)


def noisy(batch: Batch, generator: torch.Generator) -> Views:
    views = [{"image": batch["image"] + 0.2 * torch.randn(batch["image"].shape, generator=generator)} for _ in range(2)]
    return Views(views)


class Attracting(Method):
    """Two views attract and nothing repels: the features must collapse."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, data: Views, generator: torch.Generator) -> Out:
        a, b = (self.encoder.embed(view) for view in data.views)
        return Out(negative_cosine(a, b), embedding=a.detach())


@pytest.mark.parametrize(("kind", "name"), [("constant", "feature_std"), ("rank one", "rank")])
def test_a_collapsed_encoder_is_told_with_its_cure(kind: str, name: str) -> None:
    figures, alarms = Monitor(Fixed(32, kind), rows(), CPU, 0).look({})
    assert name in [alarm.name for alarm in alarms] and figures[name] < 0.05
    assert all(alarm.cure and "collapsed" in alarm.what for alarm in alarms)


def test_a_healthy_encoder_is_not_and_neither_are_small_random_nets() -> None:
    assert not Monitor(Fixed(32, "spread"), rows(), CPU, 0).look({})[1]
    for seed in range(5):
        torch.manual_seed(seed)
        for width in (2, 8):
            assert not Monitor(small_convnet(1, width), images(), CPU, seed).look({})[1]


def test_a_fall_far_below_the_start_is_told_until_it_was_heeded() -> None:
    encoder = Fixed(32, "spread")
    watch = Monitor(encoder, rows(), CPU, 0)
    start, _ = watch.look({"usage_prototypes": 0.6, "loss_x": 0.0})
    encoder.kind = "rank one"
    _, alarms = watch.look({"usage_prototypes": 0.05, "loss_x": 0.0})
    assert [alarm.name for alarm in alarms] == ["rank", "usage_prototypes"]
    assert f"best was {start['rank']:.3g}" in alarms[0].what and "prototypes" in alarms[1].cure
    watch.told.append("rank")
    assert [alarm.name for alarm in watch.look({"usage_prototypes": 0.05})[1]] == ["usage_prototypes"]


def test_targets_and_predictions_of_one_value_are_told() -> None:
    watch = Monitor(Fixed(32, "spread"), rows(), CPU, 0)
    watch.look({"target_std": 0.8, "prediction_std": 0.3})
    assert not watch.look({"target_std": 0.5, "prediction_std": 0.2})[1]
    assert len(watch.look({"target_std": 0.002, "prediction_std": 0.001})[1]) == 2


def test_the_sample_is_fixed_and_prefers_labelled_rows() -> None:
    data = rows(2000)
    first, again, other = (Monitor(Fixed(8, "spread"), data, CPU, seed).sample for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other) and len(set(first)) == len(first) == 256
    assert len(Monitor(Fixed(100, "spread"), data, CPU, 0).sample) == 400  # four times the width
    labels = np.where(np.arange(2000) % 10 == 0, data.arrays["label"], -1)
    watch = Monitor(Fixed(8, "spread"), data, CPU, 0, labels=labels)
    assert (labels[watch.sample] >= 0).sum() == 200
    assert watch.look({})[0]["knn_accuracy"] > 0.8
    with pytest.raises(UserError, match="3 labels for 2000 rows"):
        Monitor(Fixed(8, "spread"), data, CPU, 0, labels=[0, 1, 1])


def test_knn_accuracy_is_chance_without_structure_and_whole_with_it(generator: torch.Generator) -> None:
    labels = torch.arange(400) % 4
    noise = torch.randn(400, 16, generator=generator)
    assert knn_accuracy(noise, labels) < 0.4
    assert knn_accuracy(noise + 20 * nn.functional.one_hot(labels, 16), labels) == 1.0


def run(model: Method, tmp_path: Path | None = None, data: ArrayBatches | None = None, **settings) -> list[str]:
    """Notes of a training that looks every ten steps."""
    lines: list[str] = []
    config = TrainConfig(**{"steps": 40, "monitor_every": 10, "log_every": 20, "lr": 3e-2, **settings})
    train(model, data or images(), noisy, config, tmp_path, note=lines.append)
    return lines


def fresh(kind: type[Method]) -> Method:
    torch.manual_seed(0)
    return kind(small_convnet(1, 8, norm="channel"))  # type: ignore[call-arg]


def test_a_training_that_collapses_warns_once_and_writes_it_down(tmp_path: Path) -> None:
    lines = run(fresh(Attracting), tmp_path)
    warned = [line for line in lines if "feature_std has collapsed" in line]
    assert len(warned) == 1 and "variance term" in warned[0]
    log = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    looks = [row for row in log if "feature_std" in row]
    assert [row["step"] for row in looks] == [0, 10, 20, 30, 40]
    assert sum("collapse_feature_std" in row for row in looks) == 1


def test_a_healthy_training_is_quiet() -> None:
    assert not [line for line in run(fresh(SimCLR), lr=1e-3) if "collapsed" in line]


def test_a_collapse_stops_on_request_with_the_state_saved(tmp_path: Path) -> None:
    for _ in range(2):  # the same command stops again
        with pytest.raises(UserError, match=r"collapsed to .* \(step \d+\); .*on_collapse=warn goes on from there"):
            run(fresh(Attracting), tmp_path, on_collapse="stop")
    lines = run(fresh(Attracting), tmp_path, on_collapse="warn")
    assert lines[0].startswith("resuming at step") and not lines[0].startswith("resuming at step 0")
    assert any("has collapsed" in line for line in lines)


def test_nobody_is_warned_who_does_not_want_it() -> None:
    assert not [line for line in run(fresh(Attracting), on_collapse="off") if "collapsed" in line]


def test_labels_given_by_a_person_need_no_watch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = TrainConfig(steps=10, monitor_every=5)
    model = Classifier(small_convnet(1, 8), 4)
    train(model, images(), lambda b, g: Pseudo(b, b["label"]), config, tmp_path, note=lambda line: None)
    assert "feature_std" not in (tmp_path / "metrics.jsonl").read_text()


def test_looking_changes_nothing() -> None:
    seen, unseen = fresh(SimCLR), fresh(SimCLR)
    seen.projector.eval()  # a part that rests in another mode stays there
    unseen.projector.eval()
    state = torch.get_rng_state()
    x = features(seen.encoder, images().ordered(), CPU)
    assert torch.equal(torch.get_rng_state(), state) and seen.encoder.training and not x.requires_grad
    run(seen, monitor_every=1, steps=12)
    run(unseen, monitor_every=0, steps=12)
    assert all(torch.equal(a, b) for a, b in zip(seen.state_dict().values(), unseen.state_dict().values(), strict=True))


def test_features_come_in_the_order_of_the_rows() -> None:
    data, encoder = rows(100), Fixed(8, "spread")
    whole = features(encoder, data.ordered(), CPU)
    doubled = features(encoder, data.ordered(), CPU, lambda batch: {"x": 2 * batch["x"]})
    torch.testing.assert_close(whole, torch.tanh(torch.from_numpy(data.arrays["x"]) @ encoder.spread))
    torch.testing.assert_close(doubled, torch.tanh(2 * torch.from_numpy(data.arrays["x"]) @ encoder.spread))


def test_prototypes_of_a_fresh_network_are_not_judged() -> None:
    watch = Monitor(Fixed(32, "spread"), rows(), CPU, 0)
    assert not watch.look({"usage_prototypes": 0.01}, progress=0.1)[1]
    assert [alarm.name for alarm in watch.look({"usage_prototypes": 0.01}, progress=0.3)[1]] == ["usage_prototypes"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("usage_codes", "raise the weight of diversity or the temperature"), ("usage_softmax", "raise the weight of diversity"),
        ("usage_units", "fewer units, or cluster another layer"), ("usage_targets", "normalised band by band"),
        ("usage_clusters", "fewer prototypes or codes"),
    ],
)  # fmt: skip
def test_codes_of_every_kind_have_a_cure_of_their_own(name: str, words: str) -> None:
    watch = Monitor(Fixed(32, "spread"), rows(), CPU, 0)
    assert not watch.look({name: 0.6}, progress=0.3)[1]
    [alarm] = watch.look({name: 0.01}, progress=0.5)[1]
    assert alarm.name == name and words in alarm.cure
