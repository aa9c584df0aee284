"""What a batch shows while it runs: bars on a terminal, lines in a log, JSON, or nothing."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ovectors.batch import Event, Outcome

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Report = Callable[[Event], None]


@contextlib.contextmanager
def reporting(say: Callable[[str], None], *, quiet: bool, json_lines: bool) -> Iterator[Report]:
    """What is given every event of a batch. Lines go through `say`."""
    if quiet:
        yield lambda event: None
    elif json_lines:
        yield lambda event: None if event.kind == "cell" else say(json.dumps(as_json(event)))
    elif sys.stdout.isatty():
        with _bars() as report:
            yield report
    else:
        yield lambda event: None if event.kind == "cell" else say(str(event))


def as_json(event: Event) -> dict:
    """An event as plain data: `event` is its kind."""
    told = {
        "event": event.kind,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "number": event.number,
        "total": event.total,
        "model": event.job.spec.name,
        "chapter": event.job.chapter.name,
    }
    if event.why:
        told["why"] = event.why
    if event.outcome is not None:
        tables = event.outcome.tables
        told |= {"seconds": round(event.outcome.seconds, 3), "reason": event.outcome.reason}
        told["weights_loaded"] = event.outcome.loads
        told["tables"] = {
            "computed": [use.name for use in tables if use.how == "computed"],
            "known": [use.name for use in tables if use.how == "known"],
            "damaged": {use.name: use.damage for use in tables if use.damage},
        }
    return told


def summary(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many jobs ended in each way."""
    return dict(Counter(outcome.kind for outcome in outcomes))


@contextlib.contextmanager
def _bars() -> Iterator[Report]:
    """A bar for all jobs and one for each that runs, below the lines of those that have ended."""
    from rich import progress

    columns = [progress.TextColumn("{task.description}"), progress.BarColumn()]
    columns += [progress.MofNCompleteColumn(), progress.TimeElapsedColumn()]
    with progress.Progress(*columns, transient=True) as shown:
        yield _Bars(shown)


class _Bars:
    def __init__(self, shown: Progress) -> None:
        self.shown = shown
        self.whole: TaskID | None = None
        self.runs: dict[int, TaskID] = {}

    def __call__(self, event: Event) -> None:
        """Move the bars; print a line for what has ended."""
        if self.whole is None:
            self.whole = self.shown.add_task("chapters", total=event.total)
        if event.kind == "started":
            self.runs[event.number] = self.shown.add_task(f"  {event.job}", total=None)
        elif event.kind == "cell":
            done, of = event.cells
            self.shown.update(self.runs[event.number], completed=done, total=of)
        else:
            if event.number in self.runs:
                self.shown.remove_task(self.runs.pop(event.number))
            self.shown.advance(self.whole)
            self.shown.console.print(str(event), highlight=False, markup=False, soft_wrap=True)
