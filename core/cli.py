"""What the command lines share: verbs are frozen dataclasses with `run()`; mistakes end in one line and exit code 2.

Only light modules are imported here, so that `--help` answers at once.
"""

from __future__ import annotations

import errno
import math
import os
import select
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NoReturn

from core.errors import UserError

GROUP = "tacit.domains"
MEMORY = "not enough memory; give less data, a smaller model or a smaller batch"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a write that fails names no file
TRAINING = ("pretrain",)  # verbs that several processes can share
# verbs whose --out is a folder
FOLDERS = ("synth", "check", "prepare", "pretrain", "evaluate", "finetune", "segment", "bench")
LARGEST_SEED = 2**32 - 1  # that every library takes


def domains() -> dict[str, EntryPoint]:
    """The installed domains by name; core knows none of them."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


def say(line: str) -> None:
    """A line for the terminal, on standard error: the standard output is for what was asked."""
    print(line, file=sys.stderr, flush=True)


def main(domain: str, commands: Mapping[str, type], description: str, argv: Sequence[str] | None = None) -> None:
    """Parse `argv` into one of the commands and run it; ends the process with its exit code.

    Args:
        domain: names the program, `tacit-<domain>`.
        commands: frozen dataclasses by verb; the docstring is the help text, `run()` does the work.
    """
    import tyro

    arguments = list(sys.argv[1:] if argv is None else argv)
    program = f"tacit-{domain}"
    verb = next((a for a in arguments if a in commands), "")
    several = os.environ.get("WORLD_SIZE", "1") not in ("", "1")
    with _hushed() if several and os.environ.get("RANK", "0") != "0" else nullcontext():
        if arguments and not verb and not arguments[0].startswith("-"):
            _fail(program, f"no verb '{arguments[0]}'; choose from {', '.join(commands)}", 2)
        command = tyro.extras.subcommand_cli_from_dict(
            dict(commands), prog=program, description=description, args=arguments or ["--help"]
        )
        if several and verb not in TRAINING:
            _fail(f"{program} {verb}", f"only {', '.join(TRAINING)} runs on several processes; leave out torchrun", 2)

    def work() -> Any:
        check(verb, command)
        return command.run()

    if several:
        _together(f"{program} {verb}", getattr(command, "device", "cpu"), work)
    run_safely(f"{program} {verb}".strip(), work)


def check(verb: str, command: Any) -> None:
    """Raise before any work is done where a number, the length, the seed, the device or the place to write cannot be.

    Raises:
        UserError: naming the flag.
    """
    for name, value in vars(command).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name} is {value}", where=f"--{name}", mend="give a finite number")
    if getattr(command, "steps", None) is not None and getattr(command, "minutes", None) is not None:
        raise UserError("both --steps and --minutes are given", where=verb, mend="give one of them")
    device = getattr(command, "device", "cpu")
    if device != "cpu":
        from core.device import resolve_device

        resolve_device(device)
    seed, out = getattr(command, "seed", 0), getattr(command, "out", None)
    if not 0 <= seed <= LARGEST_SEED:
        raise UserError(f"the seed is {seed}", where="--seed", mend=f"give 0 to {LARGEST_SEED}")
    if not isinstance(out, Path):
        return
    folder = getattr(
        command, "writes_folder", verb in FOLDERS
    )  # a command says so where its verb means another elsewhere
    if out.exists() and out.is_dir() != folder:
        there, wanted = ("file", "folder") if folder else ("folder", "file")
        raise UserError(f"that is a {there}, and a {wanted} is to be written", where=out, mend="give another --out")
    existing = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if existing != out.absolute() and not existing.is_dir():
        raise UserError(f"'{existing.name}' on the way there is a file", where=out, mend="give another --out")
    if not os.access(existing, os.W_OK):
        raise UserError("nothing can be written there", where=out, mend="give another --out, or change its permissions")


def _together(program: str, device: str, run: Callable[[], Any]) -> NoReturn:
    """Run a command that torchrun started several times; where it fails, it leaves without waiting for the others."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else DDP remarks on every run that it could be faster

    def work() -> Any:
        from core.distributed import processes, rank

        with processes(device), nullcontext() if rank() == 0 else _hushed():
            return run()

    try:
        run_safely(program, work)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextmanager
def _hushed() -> Iterator[None]:
    """Nothing is printed: the first process speaks for all."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def run_safely(program: str, work: Callable[[], Any]) -> NoReturn:
    """Run `work` and exit: 0 done, 2 a mistake the user can mend, 130 interrupted; bugs keep their traceback."""
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(torch|torchaudio|monai|lightly|sklearn)")
    try:
        code = work()
        sys.stdout.flush()
    except UserError as error:
        _fail(program, str(error), 2)
    except KeyboardInterrupt as stop:
        _fail(program, str(stop) or "interrupted", 130)
    except BrokenPipeError:
        if not _nobody_reads():  # another pipe broke, such as that to a process of ours: a bug
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except MemoryError:
        _fail(program, MEMORY, 2)
    except RuntimeError as error:
        if str(error) == "Query interrupted":  # DuckDB's words for Ctrl-C
            _fail(program, "interrupted", 130)
        if not any(
            sign in str(error) for sign in ("not enough memory", "out of memory", "can't allocate memory")
        ):  # torch's words
            raise
        _fail(program, MEMORY, 2)
    except OSError as error:
        if error.errno is None or (error.filename is None and error.errno not in FULL):
            raise
        _fail(program, f"{error.strerror}" + (f" ({error.filename})" if error.filename else ""), 2)
    sys.exit(code if isinstance(code, int) else 0)


def _nobody_reads() -> bool:
    """Whether the reader of our output has gone, as with `| head`."""
    try:
        sys.stdout.flush()
        asked = select.poll()
        asked.register(sys.stdout.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0))
    except BrokenPipeError:
        return True
    except (OSError, ValueError, AttributeError):  # no file, or a system without poll
        return False


def _fail(program: str, line: str, code: int) -> NoReturn:
    print(f"{program}: {line}", file=sys.stderr)
    sys.exit(code)


def tacit() -> None:
    """The `tacit` command: `tacit <domain> …` is `tacit-<domain> …`, `tacit demo` runs them all."""
    found, arguments = domains(), sys.argv[1:]
    usage = f"usage: tacit {{{','.join([*found, 'demo'])}}} …"
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage)
        for name in found:
            print(f"  {name:<12} tacit-{name}: --help lists its verbs")
        print("  demo         pretrain and evaluate every domain on generated data; one page links the reports")
        sys.exit(0)
    name, rest = arguments[0], arguments[1:]
    if name == "demo":
        import tyro

        from core.demo import Demo

        command = tyro.cli(Demo, prog="tacit demo", args=rest)
        run_safely("tacit demo", command.run)
    if name not in found:
        _fail("tacit", f"no domain '{name}'; {usage}", 2)
    found[name].load()(rest)


if __name__ == "__main__":
    tacit()
