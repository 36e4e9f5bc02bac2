"""The house: who may import whom, what a command line loads, and what happens beside a foreign `core`."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOMAINS = ("healthcare", "finance", "speech", "recsys")


def imports(package: str) -> set[str]:
    """Top-level names that a package's modules import."""
    found = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found.add(node.module.partition(".")[0])
    return found


def test_core_imports_no_domain_and_no_domain_another() -> None:
    assert not imports("core") & set(DOMAINS)
    for domain in DOMAINS:
        assert imports(domain) & {"core"}
        assert not imports(domain) & (set(DOMAINS) - {domain})


def test_core_names_no_domain() -> None:
    for path in (ROOT / "core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                constants = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
                assert not constants & set(DOMAINS), f"{path.name} branches on a domain"


def test_only_speech_needs_torchaudio() -> None:
    for package in ("core", "healthcare", "finance", "recsys"):
        assert "torchaudio" not in imports(package)


@pytest.mark.parametrize("domain", DOMAINS)
def test_help_loads_nothing_heavy(domain: str) -> None:
    script = (
        f"import sys\nfrom {domain}.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'pandas', 'sklearn', 'monai', 'torchaudio', 'matplotlib', 'numpy', 'ibis', 'duckdb'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    for verb in ("synth", "check", "pretrain", "evaluate", "embed", "bench"):
        assert verb in done.stdout


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "__init__.py").write_text("ANSWER = 42\n")
    return tmp_path


def run(command: list[str], cwd: Path, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **env})


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_foreign_core_is_one_clear_line(domain: str, foreign: Path) -> None:
    done = run([sys.executable, "-m", domain, "--help"], foreign, PYTHONPATH=f"{foreign}{os.pathsep}{ROOT}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "another package named" in done.stderr
    script = f"try:\n    import {domain}\nexcept ImportError as error:\n    print(error)"
    done = run([sys.executable, "-c", script], foreign, PYTHONPATH=f"{foreign}{os.pathsep}{ROOT}")
    assert done.returncode == 0 and "another package named" in done.stdout


@pytest.mark.parametrize("domain", DOMAINS)
def test_console_commands_do_not_mind_the_working_directory(domain: str, foreign: Path) -> None:
    script = Path(sys.executable).parent / f"tacit-{domain}"
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for command in ([str(script), "--help"], [str(script.with_name("tacit")), domain, "--help"]):
        done = subprocess.run(command, cwd=foreign, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, done.stderr
        assert f"tacit-{domain}" in done.stdout


def test_the_one_command_lists_the_domains_and_names_a_wrong_one() -> None:
    tacit = str(Path(sys.executable).parent / "tacit")
    done = run([tacit], ROOT)
    assert done.returncode == 0 and all(domain in done.stdout for domain in DOMAINS) and "demo" in done.stdout
    done = run([tacit, "astrology"], ROOT)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no domain 'astrology'" in done.stderr


def test_no_module_outgrows_its_noun() -> None:
    long = {
        str(p.relative_to(ROOT)): n
        for d in ("core", *DOMAINS)
        for p in (ROOT / d).rglob("*.py")
        if (n := len(p.read_text().splitlines())) > 420
    }
    assert not long
    assert len((ROOT / "core" / "training.py").read_text().splitlines()) <= 300


def test_nothing_is_unpickled() -> None:
    for domain in ("core", *DOMAINS):
        assert not imports(domain) & {"pickle", "joblib", "dill", "cloudpickle"}
        for path in (ROOT / domain).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "allow_pickle=True" not in text and "weights_only=False" not in text and "extractall(" not in text


def test_every_preset_says_what_to_expect_of_its_features() -> None:
    for domain, table in (
        ("healthcare", "PRESETS"),
        ("finance", "METHODS"),
        ("speech", "RECIPES"),
        ("recsys", "PRESETS"),
    ):
        module = importlib.import_module(f"{domain}.presets")
        for name, make in getattr(module, table).items():
            assert f"Expected of {name}'s features" in make.__doc__, f"{domain}: {name}"


def test_the_pages_figures_are_those_of_the_results() -> None:
    from core.figures import rewrite

    for path, text in rewrite(ROOT).items():
        if path.suffix != ".svg":  # the picture's bytes differ with matplotlib's version
            assert path.read_text(encoding="utf-8") == text, path.name
