"""Whatever a user gets wrong ends in one clear line, and what existed stays whole."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from method_cases import CASES, fresh

from core import methods as m
from core.artifacts import load_run, save_run
from core.batches import ArrayBatches
from core.bench import Bench, row
from core.cli import check, main
from core.config import from_dict, settings, to_dict
from core.encoders import (
    GRU,
    FrameStem,
    GRUConfig,
    ItemStem,
    PatchStem,
    TokenEncoder,
    Transformer,
    TransformerConfig,
    resnet,
    small_convnet,
)
from core.errors import UserError
from core.estimator import PretrainedEncoder
from core.evaluation import Answer, Evaluation
from core.masking import block_mask, random_mask, span_mask, suffix_mask
from core.pretext import Pseudo, Views
from core.quarantine import Quarantine
from core.records import Records
from core.resume import Place, load_state, save_state
from core.statistics import Estimate
from core.train_config import TrainConfig
from core.training import resolve_device, train

CONFIGS = [
    TrainConfig(steps=5), TransformerConfig(), GRUConfig(), m.SimCLRConfig(), m.CoLESConfig(), m.MoCoConfig(), m.BYOLConfig(),
    m.SimSiamConfig(), m.BarlowConfig(), m.VICRegConfig(), m.SwAVConfig(), m.DINOConfig(), m.DeepClusterConfig(),
    m.Data2VecConfig(), m.MAEConfig(), m.DenoiseConfig(), m.VAEConfig(), m.CPCConfig(), m.PuzzleConfig(),
]  # fmt: skip


def quiet(line: str) -> None:
    pass


# settings


def numbers(config: Any) -> list[tuple[str, type]]:
    """Its settings that are numbers."""
    hints = typing.get_type_hints(type(config))
    found = []
    for f in dataclasses.fields(config):
        kinds = {int, float} & ({hints[f.name]} | set(typing.get_args(hints[f.name])))
        if kinds and f.name != "minutes":
            found.append((f.name, kinds.pop()))
    return found


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_every_number_of_every_config_has_bounds(config: Any) -> None:
    for name, kind in numbers(config):
        for text in ("-1", "-1e30", "NaN", "many", "[1]", *(["1e300"] if name != "clip" else [])):
            with pytest.raises(UserError) as caught:
                settings(config, [f"{name}={text}"])
            assert name in str(caught.value) and "\n" not in str(caught.value)
        if kind is int:
            with pytest.raises(UserError, match=f"'1.5' is not a value for '{name}'"):
                settings(config, [f"{name}=1.5"])
    with pytest.raises(UserError, match="unknown setting 'colour'"):
        settings(config, ["colour=red"])
    with pytest.raises(UserError, match="unknown setting 'colour'"):
        from_dict(type(config), {**to_dict(config), "colour": "red"})


@pytest.mark.parametrize(
    "change",
    [{"steps": 0}, {"steps": -3}, {"lr": 0.0}, {"lr": math.nan}, {"lr": -1e-3}, {"seed": -1}, {"seed": 2**64}, {"warmup": 2.0},
     {"steps": None, "minutes": math.nan}, {"steps": None, "minutes": math.inf}, {"steps": None, "minutes": 0.0},
     {"steps": None}, {"minutes": 1.0}, {"accumulate": 0}, {"betas": (0.9, 1.0)}, {"optimizer": "magic"}],
    ids=str,
)  # fmt: skip
def test_a_training_that_cannot_be_is_refused(change: dict) -> None:
    with pytest.raises(UserError) as caught:
        TrainConfig(**{"steps": 5, **change})
    assert any(name in str(caught.value) for name in change)


@pytest.mark.parametrize("name", ["abacus", "cuda:99", "", "meta", "cpu:x"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"device '{name}' cannot be used here"):
        resolve_device(name)


# shapes


def test_shapes_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="patches of 5×5 do not divide 'image' of 28×28"):
        PatchStem(1, 5, 16)({"image": torch.zeros(2, 1, 28, 28)})
    for sides in (0, (4, -1), ()):
        with pytest.raises(UserError, match="patches of"):
            PatchStem(1, sides, 16)
    with pytest.raises(UserError, match="has no patches of 4×4 with 1 channels"):
        PatchStem(1, 4, 16)({"image": torch.zeros(2, 3, 28, 28)})
    with pytest.raises(UserError, match="width 30 is not a multiple of 4 heads"):
        TransformerConfig(dim=30, heads=4)
    with pytest.raises(UserError, match="heads is 0"):
        TransformerConfig(heads=0)


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5, 1.5, math.nan, math.inf])
def test_a_mask_ratio_that_hides_nothing_or_everything_is_refused(ratio: float, generator: torch.Generator) -> None:
    pad = torch.zeros(2, 12, dtype=torch.bool)
    for draw in (
        lambda: random_mask(pad, ratio, generator),
        lambda: span_mask(pad, ratio, 3, generator),
        lambda: block_mask((3, 4), ratio, generator, 2),
    ):
        with pytest.raises(UserError, match="mask ratio"):
            draw()


@pytest.mark.parametrize(("low", "high"), [(3, 2), (-1, 2)])
def test_a_suffix_of_impossible_length_is_refused(low: int, high: int, generator: torch.Generator) -> None:
    with pytest.raises(UserError, match=f"no length lies between {low} and {high}"):
        suffix_mask(torch.zeros(2, 12, dtype=torch.bool), low, high, generator)


# methods


@pytest.mark.parametrize(
    "name", [name for name in CASES if fresh(name).batch_statistics and isinstance(CASES[name].data(), Views)]
)
def test_a_batch_smaller_than_the_negatives_need_is_refused(name: str, generator: torch.Generator) -> None:
    with pytest.raises(UserError, match=r"in a batch of 1 \(batch_size\); use \d+ or more"):
        fresh(name)(CASES[name].data(rows=1), generator)


@pytest.mark.parametrize("kind", [m.MoCo, m.SwAV])
def test_a_queue_smaller_than_a_batch_is_refused(kind: type, generator: torch.Generator) -> None:
    queue = 8
    config = m.MoCoConfig(queue=queue) if kind is m.MoCo else m.SwAVConfig(queue=queue, prototypes=4)
    method = kind(small_convnet(1, 8), config)
    method(Views([{"image": torch.randn(12, 1, 16, 16)} for _ in range(2)]), generator)
    with pytest.raises(UserError, match=rf"\d+ rows are pushed at a step into a queue of {queue}.*use \d+ or more"):
        method.after_step(0.5)


def tokens(causal: bool = False) -> TokenEncoder:
    return TokenEncoder(ItemStem(12, 16), Transformer(TransformerConfig(16, heads=2, causal=causal)))


def heads() -> dict:
    return dict(tokens().stem.heads())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: m.MaskedAutoencoder(resnet("resnet18", 1)), "masked autoencoder needs tokens"),
        (lambda: m.MaskedAutoencoder(tokens()), "masked autoencoder needs tokens"),
        (lambda: m.MaskedPrediction(resnet("resnet18", 1), {}), "masked prediction needs an encoder of tokens"),
        (lambda: m.Data2Vec(resnet("resnet18", 1)), "needs"),
        (lambda: m.Autoregressive(tokens(), heads()), "next-step prediction needs a causal trunk"),
        (lambda: m.Autoregressive(small_convnet(1, 8), {}), "next-step prediction needs a causal trunk"),
        (lambda: m.CPC(tokens()), "cpc needs a causal trunk"),
        (lambda: m.CPC(resnet("resnet18", 1)), "cpc needs a causal trunk"),
        (lambda: resnet("vgg16"), "torchvision has no 'vgg16'"),
        (lambda: small_convnet(norm="group"), "norm 'group' is not known"),
        (lambda: FrameStem(20, 16, 0), "stride"),
        (lambda: GRU(GRUConfig(depth=0)), "depth is 0"),
    ],
)
def test_a_method_that_an_encoder_cannot_serve_is_refused(make: Callable, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("name", CASES)
def test_a_pretext_of_another_family_is_refused(name: str, generator: torch.Generator) -> None:
    wrong = Pseudo({}, torch.zeros(1)) if not isinstance(CASES[name].data(), Pseudo) else Views([{}, {}])
    with pytest.raises(UserError, match=f"needs a pretext that gives .*, this one gives {type(wrong).__name__}"):
        fresh(name)(wrong, generator)


# runs


@dataclasses.dataclass(frozen=True)
class Recipe:
    width: int = 8
    pool: Literal["mean", "max"] = "mean"


class Estimator(PretrainedEncoder):
    domain: ClassVar[str] = "tests"

    def __init__(self, recipe: Recipe = Recipe()) -> None:
        self.recipe = recipe

    def grown(self) -> Estimator:
        self.encoder_, self.heads_ = small_convnet(1, self.recipe.width, pool=self.recipe.pool), None
        return self

    def describe(self) -> dict[str, Any]:
        return {"recipe": to_dict(self.recipe), "names": ["a"]}

    @classmethod
    def build(cls, config: dict[str, Any]) -> Estimator:
        estimator = cls(from_dict(Recipe, config["recipe"])).grown()
        estimator.names_ = [str(name) for name in config["names"]]
        return estimator


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Estimator().grown().save(tmp_path / "run")


def test_a_run_of_a_later_tacit_says_so(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["recipe"]["depth"] = 12
    (run / "config.json").write_text(json.dumps({**config, "tacit": "99.1"}))
    with pytest.raises(UserError, match=r"unknown setting 'depth' \(.*run, .*update tacit: 99.1 wrote the run"):
        Estimator.load(run)
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"unknown setting 'depth' \(.*run, .*known here: width, pool"):
        Estimator.load(run)


@pytest.mark.parametrize(
    "change",
    [{"recipe": None}, {"recipe": []}, {"recipe": {"width": "wide"}}, {"recipe": {"width": 16}}, {"recipe": {"width": 10**15}},
     {"recipe": {"width": -8}}, {"recipe": {"width": 0}}, {"recipe": {"pool": "min"}}, {"names": 3}, {"names": None}, {"domain": 3}, {"format": None}],
    ids=str,
)  # fmt: skip
def test_a_config_that_was_changed_is_refused(change: dict, run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(UserError) as caught:
        Estimator.load(run)
    assert str(run) in str(caught.value) and "\n" not in str(caught.value)
    (run / "config.json").write_text(json.dumps({key: value for key, value in config.items() if key not in change}))
    with pytest.raises(UserError):
        Estimator.load(run)


def test_weights_of_another_network_are_refused(run: Path) -> None:
    save_run(run, "tests", Estimator().describe(), torch.nn.Linear(3, 3))
    with pytest.raises(UserError, match="settings and weights do not fit together"):
        Estimator.load(run)


def test_a_place_that_cannot_hold_a_run_is_named_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    method, data, config = untrained(), pictures(), TrainConfig(steps=3)
    for out, message in ((tmp_path / "file", "that is a file"), (tmp_path / "file" / "run", "Not a directory")):
        with pytest.raises(UserError, match=message):
            Estimator().pretrain(method, data, labelled, config, out, quiet)
    assert (tmp_path / "file").read_text() == "mine" and [p.name for p in tmp_path.iterdir()] == ["file"]


# training


def untrained(kind: str = "classifier", width: int = 4) -> m.Method:
    torch.manual_seed(0)
    encoder = small_convnet(1, width, norm="channel")
    if kind == "classifier":
        return m.Classifier(encoder, 3)
    return m.PretextClassifier(encoder, m.PuzzleConfig(classes=(("kind", 3),), dropout=0.1 * (kind == "dropout")))


def pictures(rows: int = 12) -> ArrayBatches:
    draw = np.random.default_rng(0)
    image = draw.standard_normal((rows, 1, 16, 16)).astype(np.float32)
    return ArrayBatches({"image": image, "label": np.arange(rows) % 3}, 6)


def labelled(batch: dict, generator: torch.Generator) -> Pseudo:
    return Pseudo(batch, batch["label"])


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A working folder with a resume state after step 3."""
    train(untrained(), pictures(), labelled, TrainConfig(steps=3), tmp_path / "run", quiet)
    return tmp_path / "run"


def goes_on(folder: Path, method: m.Method, data: ArrayBatches | None = None) -> None:
    train(method, data or pictures(), labelled, TrainConfig(steps=3), folder, quiet)


def test_a_resume_state_that_is_damaged_is_refused(begun: Path) -> None:
    state = begun / "resume" / "state.pt"
    whole = state.read_bytes()
    for damaged in (whole[:-100], whole[: len(whole) // 2], b"", b"PK\x03\x04", whole[:200] + b"\0" * 50 + whole[250:]):
        state.write_bytes(damaged)
        with pytest.raises(UserError, match=r"saved training state cannot be read.*remove that folder"):
            goes_on(begun, untrained())
        assert state.read_bytes() == damaged
    for content in ([1, 2], {"step": 3}, {"settings": "{", "place": {}}, {"settings": "{}", "place": {"colour": 1}}):
        torch.save(content, state)
        with pytest.raises(UserError, match=r"saved training state cannot be read|other settings"):
            goes_on(begun, untrained())


def test_a_resume_state_of_another_run_is_refused_and_kept(begun: Path) -> None:
    before = (begun / "resume" / "state.pt").read_bytes()
    for method, data in (
        (untrained(width=8), None),  # another network
        (untrained("puzzle"), None),  # another method
        (untrained(), pictures(18)),  # other data
    ):
        with pytest.raises(UserError, match="an unfinished run"):
            goes_on(begun, method, data)
    assert (begun / "resume" / "state.pt").read_bytes() == before


def test_a_resume_state_of_the_same_method_with_other_settings_is_refused(tmp_path: Path) -> None:
    goes_on(tmp_path, untrained("puzzle"))
    with pytest.raises(UserError, match="an unfinished run with other settings is there: objective"):
        goes_on(tmp_path, untrained("dropout"))


# full disks and places that cannot be written


def state_of(folder: Path) -> Callable[[], None]:
    method = untrained()
    optimizer = torch.optim.SGD(method.parameters())
    return lambda: save_state(folder, method, optimizer, {}, Place(1, 2))


def evaluation(size: int = 0) -> Evaluation:
    return Evaluation(
        "x" * (10 + size), {}, "auroc", {"auroc": Estimate(0.9, 0.8, 1.0)}, {"floor": {"auroc": Estimate(0.5, 0.4, 0.6)}},
        {"pretraining": Answer("helps", Estimate(0.1, 0.0, 0.2), "")},
    )  # fmt: skip


def bench_of(folder: Path, size: int) -> Callable[[], object]:
    """A bench whose settings, which a part is measured under, are new."""
    bench = Bench(folder, {"size": size}, say=quiet)

    def work() -> object:
        bench.run("t", 0, lambda: [row("d", "m", "ours", "auroc", 0.5, note="x" * size)])
        return bench.write()

    return work


def bad_records(size: int) -> Quarantine:
    bad = Quarantine()
    bad.add("x" * (10 + size), "unreadable")
    return bad


WRITERS: dict[str, Callable[[Path, int], Callable[[], object]]] = {
    "resume state": lambda folder, size: state_of(folder),
    "metrics.jsonl": lambda folder, size: lambda: Records(folder).write({"loss": 0.5, "note": "x" * size}, 1),
    "evaluation.json and report.html": lambda folder, size: lambda: evaluation(size).write(folder),
    "bench": lambda folder, size: bench_of(folder, size),
    "quarantine.csv": lambda folder, size: lambda: bad_records(size).write(folder / "quarantine.csv"),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_a_full_disk_leaves_what_was_there_whole(name: str, share: float, tmp_path: Path, full_disk: Callable) -> None:
    WRITERS[name](tmp_path, 0)()
    before = contents(tmp_path)
    after = int(share * max(map(len, before.values())))
    if name == "metrics.jsonl":  # it grows: room for a part of the next line
        after = len(before[name]) + int(share * 100)
    with (
        full_disk(after=after),
        pytest.raises(
            UserError, match=r"could not be written: File too large|cannot be written: File too large"
        ) as caught,
    ):
        WRITERS[name](tmp_path, 300)()
    assert "\n" not in str(caught.value)
    now = contents(tmp_path)
    if name == "metrics.jsonl":
        assert now.pop(name).startswith(before.pop(name))
    if name == "bench" and now != before:  # the part was written, the summary was not
        assert {path for path in now if now[path] != before[path]} == {"parts/t-0.json"}
        before["parts/t-0.json"] = now["parts/t-0.json"]
    assert now == before


@pytest.mark.parametrize("name", WRITERS)
def test_any_change_of_the_disk_that_fails_is_one_clear_line(name: str, tmp_path: Path, full_at: Callable) -> None:
    reached = 0
    for changes in range(99):
        folder = tmp_path / str(changes) / "deep" / "er"
        work = WRITERS[name](folder, 0)
        with full_at(changes) as disk:
            if not disk.reached(work):
                break
        reached += 1
        assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]
        WRITERS[name](folder, 0)()  # and with some space it goes on
    assert 3 <= reached < 99 and contents(folder)


def test_a_line_that_a_full_disk_cut_short_is_forgotten_when_the_run_goes_on(begun: Path) -> None:
    log = begun / "metrics.jsonl"
    whole = log.read_text()
    log.write_text(whole + '{"step": 3, "lo')
    assert load_state(begun, state_settings(begun), torch.device("cpu")) is not None
    assert log.read_text() == whole


def state_settings(folder: Path) -> dict:
    return json.loads(torch.load(folder / "resume" / "state.pt", weights_only=True)["settings"])


def test_a_damaged_part_of_a_bench_is_named(tmp_path: Path) -> None:
    work = bench_of(tmp_path, 0)
    work()
    for damaged in ("{", "[]", '{"rows": []}'):
        (tmp_path / "parts" / "t-0.json").write_text(damaged)
        with pytest.raises(UserError, match=r"part is damaged \(.*t-0.json\); remove it"):
            work()


# command lines


@dataclasses.dataclass(frozen=True)
class Verb:
    """Does nothing but say what it would have done."""

    out: Path = Path("out")
    seed: int = 0
    minutes: float = 1.0

    def run(self) -> None:
        print("done")


@pytest.mark.parametrize(
    ("verb", "arguments", "line"),
    [
        (
            "pretrain",
            ["--out", "{}/file"],
            "that is a file, and a folder is to be written ({}/file); give another --out",
        ),
        ("pretrain", ["--out", "{}/file/run"], "'file' on the way there is a file"),
        ("embed", ["--out", "{}/folder"], "that is a folder, and a file is to be written"),
        ("embed", ["--out", "{}/file/a/b.parquet"], "'file' on the way there is a file"),
        ("pretrain", ["--seed", "-1"], "the seed is -1 (--seed); give 0 to 4294967295"),
        ("pretrain", ["--seed", str(10**30)], "the seed is 1"),
        ("pretrain", ["--minutes", "nan"], "minutes is nan (--minutes); give a finite number"),
        ("pretrain", ["--minutes", "inf"], "minutes is inf"),
    ],
)
def test_flags_that_cannot_be_end_before_any_work(
    verb: str, arguments: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SystemExit) as end:
        main("test", {verb: Verb, "other": Verb}, "A test.", [verb, *[a.format(tmp_path) for a in arguments]])
    said = capsys.readouterr()
    assert end.value.code == 2 and said.out == "" and line.format(tmp_path) in said.err and said.err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_a_read_only_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check("pretrain", Verb(tmp_path / "new" / "run"))
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)  # root may write anywhere
    with pytest.raises(UserError, match=r"nothing can be written there.*change its permissions"):
        check("pretrain", Verb(tmp_path / "new" / "run"))


def test_what_torch_says_of_too_little_memory_is_one_line(capsys: pytest.CaptureFixture) -> None:
    @dataclasses.dataclass(frozen=True)
    class Huge(Verb):
        """Asks for a million gigabytes."""

        def run(self) -> None:
            torch.empty(10**15)

    with pytest.raises(SystemExit) as end:
        main("test", {"huge": Huge, "other": Verb}, "A test.", ["huge"])
    assert end.value.code == 2 and "not enough memory; give less data" in capsys.readouterr().err


def test_a_run_that_is_a_file_or_nothing_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / "nothing", tmp_path):
        with pytest.raises(UserError, match="no run there"):
            load_run(place, "tests")
