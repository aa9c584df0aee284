"""The command line, `ovectors`: one function a command, and one line for whatever goes wrong."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ovectors.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

DEFAULT_MODEL = "mini-2m"
FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 1, 2, 130, 143


class CommandFailed(Exception):
    """The command did its work and something in it failed; what it was has been said already."""

    def __init__(self, code: int = FAILED) -> None:
        super().__init__(code)
        self.code = code


class _Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: cleaned up after like Ctrl-C."""


_signals: list[int] = []


def _on_signal(number: int, frame: Any) -> NoReturn:
    _signals.append(number)
    raise KeyboardInterrupt if number == signal.SIGINT else _Terminated


@contextlib.contextmanager
def _signals_end_the_command() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP raise in this block, and be remembered (see `_say`)."""
    _signals.clear()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    if threading.current_thread() is not threading.main_thread():
        numbers = ()
    before = {number: signal.signal(number, _on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done; 1: a chapter or the book failed; 2: bad input; 130: Ctrl-C (143: terminated). Bad
    input and Ctrl-C give one line on stderr, and never a traceback.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # Not commands.main(): it writes a line of its own when it is interrupted.
        with _signals_end_the_command(), commands.make_context("ovectors", words) as context:
            commands.invoke(context)
    except click.exceptions.Exit as error:  # --help, --version
        return error.exit_code
    except CommandFailed as error:
        return error.code
    except UserError as error:
        return _complain(str(error), BAD_INPUT)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        return _complain(error.format_message() + hint, BAD_INPUT)
    except _Terminated:
        return _complain("terminated; nothing half-done was kept", TERMINATED)
    except (KeyboardInterrupt, click.Abort):
        said = "interrupted; nothing half-done was kept, and the same command goes on from here"
        return _complain(said, INTERRUPTED)
    except BrokenPipeError:  # the reader has gone (`ovectors models | head`): nothing to tell it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        return _complain(f"{error.filename or 'the system'}: {error.strerror}", BAD_INPUT)
    return 0


def _complain(message: str, code: int) -> int:
    if code >= INTERRUPTED and sys.stderr.isatty():
        print(file=sys.stderr)  # leave the terminal's ^C a line of its own
    print(f"ovectors: {' '.join(message.split())}", file=sys.stderr)
    return code


@click.group(
    name="ovectors",
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="ovectors")
def commands() -> None:
    """Executable companion to "Language Models Implement Simple Word2Vec-style Vector Arithmetic".

    `ovectors run` executes chapters on models, `ovectors book` builds the book from what was run.
    """


@commands.command()
@click.option("--fits", is_flag=True, help="Also say whether each model fits this machine.")
def models(fits: bool) -> None:
    """List the models known by name; any other hub id or local folder works too."""
    from ovectors.catalogue import catalogue_rows

    heads = ["name", "parameters", "layers", "dtype", "memory", "source", "here"]
    table = _table(*heads, *(["fits"] if fits else []), numbers=("parameters", "layers", "memory"))
    for row in catalogue_rows():
        cells = [row["name"], _count(row["parameters"]), str(row["layers"] or "?")]
        cells += [row["dtype"] or "as stored", _size(row["memory_bytes"]), row["source"]]
        cells += [_yes(row["here"])] + ([_yes(row["fits"])] if fits else [])
        table.add_row(*cells)
    _console().print(table)


@commands.command()
@click.argument("model")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16, ...")
@click.option("--revision", help="A branch, tag or commit on the hub.")
def check(model: str, device: str, dtype: str, revision: str | None) -> None:
    """Load MODEL and print the figures of its self-check."""
    from ovectors.models import load_model
    from ovectors.selfcheck import self_check

    loaded = load_model(model, device=device, dtype=dtype, revision=revision, check=False)
    report = self_check(loaded, strict=False)
    table = _table("invariant", "worst layer", "gap", "tolerance", "holds", numbers=("gap",))
    for row in report.rows:
        gap, tolerance = f"{row.gap:.2e}", f"{row.tolerance:.2e}"
        table.add_row(row.invariant, str(row.layer), gap, tolerance, _yes(row.passed))
    _console().print(f"{report.model} in {report.dtype}", table, sep="\n")
    if not report.passed:
        worst = next(row for row in report.rows if not row.passed)
        raise UserError(
            f"{model} fails its self-check at layer {worst.layer} ({worst.invariant}: gap "
            f"{worst.gap:.2e}): it is not wired as expected, and its numbers would be wrong"
        )


@commands.command()
@click.option("--model", "-m", "names", multiple=True, default=[DEFAULT_MODEL], show_default=True)
@click.option("--chapter", "-c", "wanted", multiple=True, help="Number or name; all if not given.")
@click.option("--parameter", "-p", "pairs", multiple=True, metavar="NAME=VALUE")
@click.option("--n-items", type=click.IntRange(min=0), help="Items per task; 0 means all.")
@click.option("--seed", type=int)
@click.option("--device", help="auto, cpu, cuda, cuda:N or mps")
@click.option("--dtype", help="auto, float32, bfloat16, ...")
@click.option("--keep-going", "-k", is_flag=True, help="Go on with the others after a failure.")
@click.option("--force", "-f", is_flag=True, help="Also run what is whole and current.")
def run(
    names: tuple[str, ...],
    wanted: tuple[str, ...],
    pairs: tuple[str, ...],
    keep_going: bool,
    force: bool,
    **common: Any,
) -> None:
    """Execute chapters on models; what is whole and current is not run again.

    Results go to book/runs/<model>/, a failed notebook to book/runs/<model>/failed/.
    """
    from ovectors.batch import plan, run_jobs
    from ovectors.notebooks import choose_chapters

    given = _parameters(pairs) | {k: v for k, v in common.items() if v is not None}
    jobs = plan(names, choose_chapters(wanted), given, force=force)
    outcomes = run_jobs(jobs, keep_going=keep_going, report=_say)
    kinds = [outcome.kind for outcome in outcomes]
    words = ("done", "run"), ("current", "already current"), ("failed", "failed")
    counts = [f"{kinds.count(kind)} {word}" for kind, word in words if kind in kinds]
    if "not started" in kinds:
        counts.append(f"{kinds.count('not started')} not started (--keep-going goes on)")
    _say(", ".join(counts))
    failed = [outcome for outcome in outcomes if outcome.kind == "failed"]
    for outcome in failed:
        _complain(f"{outcome.job} failed: {outcome.reason}", FAILED)
    if failed:
        raise CommandFailed(BAD_INPUT if all(one.by_user for one in failed) else FAILED)


def _parameters(pairs: Sequence[str]) -> dict[str, str]:
    """`name=value` texts as a dictionary; UserError for one that is no such text."""
    given = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise UserError(f"a parameter is given as NAME=VALUE, not {pair!r}")
        given[name.strip()] = value
    return given


@commands.command()
def status() -> None:
    """Show every run: whole and current, stale, broken, failed or missing."""
    from ovectors import comparison, runs
    from ovectors.notebooks import find_chapters

    table = _table("model", "chapter", "state", "time", "memory", "why", numbers=("time", "memory"))
    models = dict.fromkeys([DEFAULT_MODEL, *runs.models_with_runs()])
    for place, chapter in comparison.places(models, find_chapters()):
        state = comparison.recorded_state(place, chapter)
        cost = ["", ""]
        if state.sidecar:
            cost = [f"{state.sidecar.seconds:.0f} s", _size(state.sidecar.peak_memory_bytes)]
        why = f"last run failed: {state.failure}" if state.failure else state.reason
        kind = "failed" if state.failure and not state.sidecar else state.kind
        table.add_row(place.model, place.chapter, kind, *cost, why)
    _console().print(table)


@commands.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
def publish(models: tuple[str, ...]) -> None:
    """Copy the claims of MODEL's runs to book/results/, to be committed.

    The chapter that compares models shows them where a model has no run.
    """
    from ovectors.record import publish as publish_results

    for model in models:
        _say(f"{model}: published in {publish_results(model)}")


@commands.command()
@click.option("--verbose", "-v", is_flag=True, help="Show what Sphinx says while it builds.")
def book(verbose: bool) -> None:
    """Build the book from all runs that are whole and current; it opens without a network."""
    from ovectors.building import BookFailed, build_book

    try:
        index = build_book(report=_say, verbose=verbose)
    except BookFailed as error:
        print(f"ovectors: {error}", file=sys.stderr)
        raise CommandFailed() from None
    _say(f"The book is ready: open {index}")


@commands.command()
@click.argument("name")
@click.option("--resume/--no-resume", default=True, help="Go on from the last checkpoint.")
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", default="float32", show_default=True, help="float32 or bfloat16")
@click.option("--output", type=click.Path(path_type=Path), help="Default: models/NAME.")
@click.option("--steps", type=click.IntRange(min=1), help="In place of the recipe's.")
def train(name: str, **settings: Any) -> None:
    """Train the miniature model NAME from scratch, or on from its last checkpoint.

    Then measure it and write its model card.
    """
    from ovectors.training.card import write_card
    from ovectors.training.evaluate import evaluate as evaluate_models
    from ovectors.training.train import train as train_model

    folder = train_model(name, **settings)
    table, text = evaluate_models([str(folder)], output=folder / "evaluation.json")
    write_card(folder, table)
    click.echo(text)
    _say(f"The model and its card are in {folder}")


@commands.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--output", type=click.Path(path_type=Path), help="Also write the figures as JSON.")
def evaluate(names: tuple[str, ...], output: Path | None) -> None:
    """Measure what models can do: accuracy for every skill, with intervals."""
    from ovectors.training.evaluate import evaluate as evaluate_models

    _, text = evaluate_models(list(names), output=output)
    click.echo(text)


def _say(line: str) -> None:
    """Print a line at once; between two steps of the work, so an interrupt that was lost counts.

    Some libraries swallow every exception while they are imported, Ctrl-C's too.
    """
    if _signals:
        raise KeyboardInterrupt if _signals[-1] == signal.SIGINT else _Terminated
    click.echo(line)
    sys.stdout.flush()


def _console() -> Console:
    from rich.console import Console

    # Into a file or pipe, a row stays one line, so that it can be searched.
    return Console(width=None if sys.stdout.isatty() else 240, highlight=False)


def _table(*heads: str, numbers: Sequence[str] = ()) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="right" if head in numbers else "left", overflow="fold")
    return table


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _count(number: int | None) -> str:
    """`124M`, `6.1B`; `?` where it is not known."""
    if number is None:
        return "?"
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)


def _size(number: int | None) -> str:
    """`512 MB`, `12 GB`: bytes in powers of ten; `?` where they are not known."""
    if number is None:
        return "?"
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number} B"
