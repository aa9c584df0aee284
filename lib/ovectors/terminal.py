"""What the command line prints: lines, tables, sizes; and how it says that something failed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 1, 2, 130, 143


_TIMES = ((2 * 86_400, 86_400, "days"), (2 * 3600, 3600, "hours"), (120, 60, "minutes"))

signals: list[int] = []
"""Those that asked the command to end, in order."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: cleaned up after like Ctrl-C."""


class CommandFailed(Exception):
    """The command did its work and something in it failed; what it was has been said already."""

    def __init__(self, code: int = FAILED) -> None:
        super().__init__(code)
        self.code = code


def on_signal(number: int, frame: Any) -> NoReturn:
    """Handle a signal: remember it, and interrupt."""
    signals.append(number)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def say(line: str) -> None:
    """Print a line at once; between two steps of the work, so an interrupt that was lost counts.

    Some libraries swallow every exception while they are imported, Ctrl-C's too.
    """
    if signals:
        raise KeyboardInterrupt if signals[-1] == signal.SIGINT else Terminated
    click.echo(line)
    sys.stdout.flush()


def complain(message: str, code: int) -> int:
    """Print one line on stderr; gives the exit code back."""
    if code >= INTERRUPTED and sys.stderr.isatty():
        print(file=sys.stderr)  # leave the terminal's ^C a line of its own
    print(f"ovectors: {' '.join(message.split())}", file=sys.stderr)
    return code


def console() -> Console:
    """Where tables go: a terminal, or rows that stay one line, so that they can be searched."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 240, highlight=False)


def table(*heads: str, numbers: Sequence[str] = ()) -> Table:
    """An empty table with these columns; `numbers` are set to the right."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        made.add_column(head, justify="right" if head in numbers else "left", overflow="fold")
    return made


def yes(value: bool) -> str:
    """`yes` or `no`."""
    return "yes" if value else "no"


def count(number: int | None) -> str:
    """`124M`, `6.1B`; `?` where it is not known."""
    if number is None:
        return "?"
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)


def size(number: int | None) -> str:
    """`512 MB`, `12 GB`: bytes in powers of ten; `?` where they are not known."""
    if number is None:
        return "?"
    for unit_size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= unit_size:
            return f"{number / unit_size:.3g} {unit}"
    return f"{number} B"


def duration(seconds: float) -> str:
    """`45 seconds`, `3 minutes`, `2.5 hours`, `12 days`."""
    for least, unit, name in _TIMES:
        if seconds >= least:
            number = seconds / unit
            return f"{number:.2g} {name}" if number < 10 else f"{number:,.0f} {name}"
    return f"{seconds:.0f} seconds"
