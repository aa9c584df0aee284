"""The commands about runs: run, explain, diff, status."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ovectors import made_on, terminal
from ovectors.errors import UserError
from ovectors.terminal import BAD_INPUT, FAILED, CommandFailed, complain, say

if TYPE_CHECKING:
    from ovectors.batch import Job, Outcome
    from ovectors.claims import Measured
    from ovectors.diff import Comparison
    from ovectors.explain import Verdict

DEFAULT_MODEL = "mini-2m"
MOST_REASONS = 3

_ENDS = {"done": "run", "current": "already current", "failed": "failed"}
_ENDS |= {"skipped": "skipped", "not started": "not started (--keep-going goes on)"}


def _parameter_options(command: Callable) -> Callable:
    """The options that become a chapter's parameters."""
    for option in (
        click.option("--dtype", help="auto, float32, bfloat16, ...; fit: one that fits here."),
        click.option("--device", help="auto, cpu, cuda, cuda:N or mps"),
        click.option("--seed", type=int),
        click.option("--n-items", type=click.IntRange(min=0), help="Items per task; 0 means all."),
        click.option("--parameter", "-p", "pairs", multiple=True, metavar="NAME=VALUE"),
    ):
        command = option(command)
    return command


@click.command()
@click.option("--model", "-m", "names", multiple=True, default=[DEFAULT_MODEL], show_default=True)
@click.option("--chapter", "-c", "wanted", multiple=True, help="Number or name; all if not given.")
@_parameter_options
@click.option("--jobs", "-j", type=click.IntRange(min=1), default=1, help="Chapters at a time.")
@click.option("--keep-going", "-k", is_flag=True, help="Go on with the others after a failure.")
@click.option("--force", "-f", is_flag=True, help="Also run what is whole and current.")
@click.option(
    "--unfit-too", is_flag=True, help="Also models that do not fit, or only by offloading."
)
@click.option("--only-failed", is_flag=True, help="Only what failed when it was last run.")
@click.option("--dry-run", "-n", is_flag=True, help="Say what would run, and why; write nothing.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but what failed.")
@click.option("--json-lines", is_flag=True, help="Say it as JSON, an event a line.")
@click.option("--beside", is_flag=True, help="Let other `run --beside` work in the same folder.")
@click.option("--tables-only", is_flag=True, help="Compute tables, keep them, and publish nothing.")
@click.option(
    "--made-on",
    "elsewhere",
    type=click.Choice(made_on.DEVICES),
    help="Compute no table: take those made on such a device.",
)
def run(
    names: tuple[str, ...],
    wanted: tuple[str, ...],
    pairs: tuple[str, ...],
    jobs: int,
    keep_going: bool,
    dry_run: bool,
    quiet: bool,
    json_lines: bool,
    beside: bool,
    elsewhere: str | None,
    **chosen: Any,
) -> None:
    """Execute chapters on models; what is whole and current is not run again, and a model that does
    not fit this machine is skipped.

    The chapters of a model run one after the other in one kernel, which loads the weights at most
    once. --jobs spreads models over as many kernels; where there are more of these than models, a
    second one joins a model whose weights take at most 1 GB, and the others stay idle.

    Results go to book/runs/<model>/, a failed notebook to book/runs/<model>/failed/. It can be
    ended at any time, also by kill -9: the same command goes on. Exit code 0: all is whole and
    current; 1: something failed; 2: bad input, or another batch is running there.
    """
    from ovectors import batch
    from ovectors.progress import reporting

    if quiet and json_lines:
        raise UserError("--quiet and --json-lines exclude each other")
    if elsewhere and chosen["tables_only"]:
        raise UserError("--made-on and --tables-only exclude each other")
    click.get_current_context().with_resource(made_on.only(elsewhere))
    if dry_run:
        _foretell(_planned(names, wanted, pairs, dry=True, **chosen), json_lines=json_lines)
        return
    with batch.alone(beside=beside):
        planned = _planned(names, wanted, pairs, **chosen)
        with reporting(say, quiet=quiet, json_lines=json_lines) as report:
            outcomes = batch.run_jobs(planned, keep_going=keep_going, at_once=jobs, report=report)
    code = _exit_code(outcomes)
    _sum_up(outcomes, code=code, quiet=quiet, json_lines=json_lines)
    if code:
        raise CommandFailed(code)


def _planned(
    names: Sequence[str],
    wanted: Sequence[str],
    pairs: Sequence[str],
    *,
    force: bool,
    only_failed: bool,
    unfit_too: bool,
    tables_only: bool,
    dry: bool = False,
    **common: Any,
) -> tuple[Job, ...]:
    from ovectors import batch, runs
    from ovectors.notebooks import choose_chapters

    given = _given(pairs, common)
    how = {"force": force, "dry": dry, "unfit_too": unfit_too}
    planned = batch.plan(names, choose_chapters(wanted), given, **how)
    if only_failed:
        planned = tuple(job for job in planned if runs.failure_of(job.place.failed))
    if tables_only:
        own = (job for job in planned if not job.chapter.across)
        planned = tuple(replace(job, tables_only=True) for job in own)
    return planned


def _given(pairs: Sequence[str], common: dict[str, Any]) -> dict[str, Any]:
    """The parameters that are given; UserError for a text that is no `name=value`."""
    given: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise UserError(f"a parameter is given as NAME=VALUE, not {pair!r}")
        given[name.strip()] = value
    return given | {name: value for name, value in common.items() if value is not None}


def _foretell(planned: Sequence[Job], *, json_lines: bool) -> None:
    for number, job in enumerate(planned, start=1):
        why = job.why
        if json_lines:
            told = {"event": "would run" if why else "current", "model": job.spec.name}
            say(json.dumps({**told, "chapter": job.chapter.name, "why": why, "skip": job.unfit}))
            continue
        said = f"would run ({why})" if why else "already whole and current"
        said = f"would be skipped: {job.unfit}" if why and job.unfit else said
        say(f"[{number}/{len(planned)}] {job}: {said}")
    if not planned and not json_lines:
        say("nothing to run")


def _exit_code(outcomes: Sequence[Outcome]) -> int:
    failed = [outcome for outcome in outcomes if outcome.kind == "failed"]
    if failed:
        return BAD_INPUT if all(one.by_user for one in failed) else FAILED
    return BAD_INPUT if outcomes and all(one.kind == "skipped" for one in outcomes) else 0


def _sum_up(outcomes: Sequence[Outcome], *, code: int, quiet: bool, json_lines: bool) -> None:
    from ovectors.progress import summary

    counts = summary(outcomes)
    if json_lines:
        say(json.dumps({"event": "finished", "counts": counts, "exit_code": code}))
    elif not quiet:
        said = ", ".join(f"{counts[kind]} {word}" for kind, word in _ENDS.items() if kind in counts)
        say(said or "nothing to run")
    for outcome in outcomes:
        if outcome.kind == "failed" or (outcome.kind == "skipped" and code == BAD_INPUT):
            complain(f"{outcome.job} {outcome.kind}: {outcome.reason}", FAILED)


@click.command()
@click.argument("model")
@click.argument("chapter")
@_parameter_options
@click.option("--json", "as_json", is_flag=True, help="All of it, as JSON.")
def explain(model: str, chapter: str, pairs: tuple[str, ...], as_json: bool, **common: Any) -> None:
    """Say why CHAPTER would run again on MODEL, and which of its tables would be computed again.

    For a chapter that compares models, MODEL is `all`. Nothing is run, and no weights are loaded.
    """
    from dataclasses import asdict

    from ovectors.explain import explain as explained
    from ovectors.notebooks import choose_chapters

    (chosen,) = choose_chapters([chapter])
    found = explained(model, chosen, _given(pairs, common))
    if as_json:
        click.echo(json.dumps(asdict(found), indent=1))
        return
    say(f"{found.chapter} on {found.model}: {_stands(found.run)}")
    whose = "of its last run" if found.tables_of == "run" else "kept of this model"
    again = [table for table in found.tables if table.state != "current"]
    say(f"tables {whose}: {len(found.tables) - len(again)} current, {len(again)} to compute again")
    alike: dict[str, list[Verdict]] = {}
    for table in again:
        alike.setdefault(f"{table.what}|{_stands(table)}", []).append(table)
    for tables in alike.values():
        settings = (f"{name}={value}" for name, value in tables[0].settings.items())
        which = f"({', '.join(settings)})" if len(tables) == 1 else f", {len(tables)} tables"
        say(f"  {tables[0].what}{which}: {_stands(tables[0])}")


def _stands(verdict: Verdict) -> str:
    if verdict.state == "current":
        return "; ".join(["current, nothing would run again", *verdict.reasons])
    shown = [*verdict.reasons[:MOST_REASONS]]
    if more := len(verdict.reasons) - len(shown):
        shown.append(f"and {more} more (--json lists them)")
    return f"{verdict.state}: {'; '.join(shown)}"


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--close", is_flag=True, help="Fail on more than what machines differ by.")
@click.option("--all", "everything", is_flag=True, help="Also show the numbers that agree.")
@click.option("--json", "as_json", is_flag=True, help="All of it, as JSON.")
def diff(a: str, b: str, close: bool, everything: bool, as_json: bool) -> None:
    """Compare the verdicts in two folders of results, A and B, number by number.

    A folder is book/runs (`mine`), book/results (`published`), one model's in either, or the
    results of runs made by hand. Two numbers agree where their intervals overlap; they are close
    where they are no further apart than if one item, or one in a hundred, had come out otherwise,
    as rounding on another machine may do. Exit code 0: all verdicts are the same and all numbers
    agree (with --close: are close); 1: some are not, or are on one side only; 2: bad input.
    """
    from dataclasses import asdict

    from ovectors.diff import compare

    found = compare(a, b)
    differing = [one for one in found if not (one.close if close else one.same)]
    if as_json:
        told = {"same": not differing, "claims": [asdict(one) for one in found]}
        click.echo(json.dumps(told, indent=1, default=lambda number: number.model_dump()))
    else:
        _show_diff(found, fine=_fine(close=close, everything=everything))
    if differing:
        raise CommandFailed(FAILED)


def _fine(*, close: bool, everything: bool) -> tuple[str, ...]:
    """How near two numbers must be to need no line."""
    if everything:
        return ()
    return ("equal", "close") if close else ("equal", "close", "agrees")


def _show_diff(found: Sequence[Comparison], *, fine: Sequence[str]) -> None:
    heads = ("model", "claim", "relation", "number", "A", "B", "")
    table = terminal.table(*heads)
    for one in found:
        named = (one.model, one.claim or one.chapter)
        if one.trouble:
            table.add_row(*named, "", "", "", "", one.trouble)
        elif one.verdicts[0] != one.verdicts[1] or not fine:
            same = one.verdicts[0] == one.verdicts[1]
            table.add_row(*named, "", "verdict", *one.verdicts, "equal" if same else "differs")
        for row in one.rows:
            if row.agreement not in fine:
                numbers = (_number(row.a), _number(row.b))
                table.add_row(*named, row.relation, row.name, *numbers, row.agreement)
    if table.row_count:
        terminal.console().print(table)
    for place in dict.fromkeys((one.model, one.chapter) for one in found):
        changed = next(one.changed for one in found if (one.model, one.chapter) == place)
        if changed:
            say(f"{place[1]} on {place[0]}: the keys differ in {', '.join(changed)}")
    rows = [row.agreement for one in found for row in one.rows]
    counts = [f"{rows.count(kind)} {kind}" for kind in dict.fromkeys(sorted(rows))]
    verdicts = sum(one.verdicts[0] == one.verdicts[1] for one in found)
    say(f"verdicts: {verdicts} of {len(found)} the same; numbers: {', '.join(counts) or 'none'}")


def _number(one: Measured | None) -> str:
    if one is None or one.value is None:
        return "-"
    interval = "" if one.low is None else f" [{one.low:.4g}, {one.high:.4g}]"
    return f"{one.value:.4g}{interval} n={one.n}"


@click.command()
def status() -> None:
    """Show every run: whole and current, stale, broken, failed or missing."""
    from ovectors import comparison, runs
    from ovectors.notebooks import find_chapters

    heads = ("model", "chapter", "state", "time", "memory", "why")
    table = terminal.table(*heads, numbers=("time", "memory"))
    models = dict.fromkeys([DEFAULT_MODEL, *runs.models_with_runs()])
    for place, chapter in comparison.places(models, find_chapters()):
        state = comparison.recorded_state(place, chapter)
        cost = ["", ""]
        if state.sidecar:
            memory = terminal.size(state.sidecar.peak_memory_bytes)
            cost = [f"{state.sidecar.seconds:.0f} s", memory]
        why = f"last run failed: {state.failure}" if state.failure else state.reason
        kind = "failed" if state.failure and not state.sidecar else state.kind
        table.add_row(place.model, place.chapter, kind, *cost, why)
    terminal.console().print(table)
