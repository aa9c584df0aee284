"""One chapter after the other in one kernel: each begins as if the process were new.

What a chapter left is taken away: names, figures, outputs and their numbers, warnings filters,
random states, settings of numerical and plotting libraries, working folder, environment, search
path and the modules found through it, child processes. Imported modules and the weights of the
model that is served stay (`in_memory`), so a change that a chapter makes inside a library's module
does too. Where something cannot be taken back (a limit of the system, a thread, an extension of
IPython, another backend of the figures) `begin` raises NotFresh, and the kernel is to be replaced.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import resource
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovectors import in_memory, keys, paths


class NotFresh(Exception):
    """An earlier chapter has left something that cannot be taken away; the message says what."""


@dataclass(frozen=True)
class _Start:
    """What the process was like before its first chapter."""

    environment: dict[str, str]
    folder: str
    path: tuple[str, ...]
    arguments: tuple[str, ...]
    modules: frozenset[str]
    extensions: frozenset[str]
    filters: tuple[Any, ...]
    show_warning: Callable[..., None]
    log_handlers: tuple[logging.Handler, ...]
    log_level: int
    limits: dict[str, tuple[int, int]]


_start: _Start | None = None
_filters_of_chapters: list[Any] = []


def begin(environment: Mapping[str, str], *, model: str) -> None:
    """Make the process new for a chapter on `model`, with `environment` added to its own."""
    global _start
    if _start is None:
        _start = _now()
        _tell_filters_apart()
    else:
        _refuse_what_lasts(_start)
        _end_children()
        _empty_notebook()
        _reset_libraries()
        _restore(_start)
        gc.collect()
    os.environ.update(environment)
    in_memory.keep(model)


def _now() -> _Start:
    root = logging.getLogger()
    return _Start(
        environment=dict(os.environ),
        folder=os.getcwd(),
        path=tuple(sys.path),
        arguments=tuple(sys.argv),
        modules=frozenset(sys.modules),
        extensions=frozenset(_shell().extension_manager.loaded),
        filters=tuple(warnings.filters),
        show_warning=warnings.showwarning,
        log_handlers=tuple(root.handlers),
        log_level=root.level,
        limits=_limits(),
    )


def _shell() -> Any:
    from IPython.core.getipython import get_ipython

    return get_ipython()


def _limits() -> dict[str, tuple[int, int]]:
    """Every limit that the system sets for this process."""
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}


def _is_of_a_chapter(function: Any) -> bool:
    return getattr(function, "__module__", None) == "__main__"


def _tell_filters_apart() -> None:
    """Remember the warnings filters that chapters set: those that libraries set stay with them."""
    for name in ("filterwarnings", "simplefilter"):
        setattr(warnings, name, _remembering(getattr(warnings, name)))


def _remembering(setter: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(setter)
    def remembering(*arguments: Any, **more: Any) -> None:
        """Sets a filter; one that a chapter sets is known as its own."""
        before = [*warnings.filters]
        setter(*arguments, **more)
        if sys._getframe(1).f_globals.get("__name__") == "__main__":
            _filters_of_chapters.extend(one for one in warnings.filters if one not in before)

    return remembering


def _refuse_what_lasts(start: _Start) -> None:
    if _limits() != start.limits:
        raise NotFresh("a limit of the system was changed")
    if {*_shell().extension_manager.loaded} != start.extensions:
        raise NotFresh("an extension of IPython was loaded")
    for thread in threading.enumerate():
        if _is_of_a_chapter(getattr(thread, "_target", None)) or _is_of_a_chapter(type(thread)):
            raise NotFresh("a thread still runs")
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib and "inline" not in matplotlib.get_backend():
        raise NotFresh("figures are drawn by another backend")


def _end_children() -> None:
    import psutil

    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(children, timeout=5)


def _empty_notebook() -> None:
    """Forget names, inputs, outputs and figures, and what a chapter has hung into the notebook."""
    shell = _shell()
    for callbacks in shell.events.callbacks.values():
        callbacks[:] = [function for function in callbacks if not _is_of_a_chapter(function)]
    for formatter in shell.display_formatter.formatters.values():
        for printers in (formatter.type_printers, formatter.deferred_printers):
            for kind in [kind for kind, how in printers.items() if _is_of_a_chapter(how)]:
                del printers[kind]
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        sys.__dict__.pop(name, None)
    shell.reset(new_session=True)


def _reset_libraries() -> None:
    """Random states and settings of those that are loaded, as they are after their import."""
    sys.modules["random"].seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
        numpy.seterr(divide="warn", over="warn", under="ignore", invalid="warn")
        numpy.set_printoptions(
            edgeitems=3, infstr="inf", linewidth=75, nanstr="nan", precision=8, suppress=False,
            threshold=1000, formatter=None, sign="-", floatmode="maxprec", legacy=False,
        )  # fmt: skip
    if pandas := sys.modules.get("pandas"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some options warn that they will go
            pandas.reset_option("^(display|styler|mode|compute)")
    if matplotlib := sys.modules.get("matplotlib"):
        matplotlib.rc_file_defaults()
    if torch := sys.modules.get("torch"):
        torch.seed()
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        torch.use_deterministic_algorithms(False)


def _restore(start: _Start) -> None:
    os.chdir(start.folder)
    os.environ.clear()
    os.environ.update(start.environment)
    _forget_own_modules(start)
    sys.path[:], sys.argv[:] = start.path, start.arguments
    kept = [one for one in warnings.filters if one not in _filters_of_chapters]
    warnings.filters[:] = kept + [one for one in start.filters if one not in kept]
    warnings._filters_mutated()
    _filters_of_chapters.clear()
    warnings.showwarning = start.show_warning
    root = logging.getLogger()
    root.handlers[:] = start.log_handlers
    root.setLevel(start.log_level)
    logging.disable(logging.NOTSET)
    keys._remembered_hash.cache_clear()  # the model's files may have changed meanwhile


def _forget_own_modules(start: _Start) -> None:
    """Forget the modules that lie beside a chapter, or where it has made Python look: like the
    chapter's own code they are read anew."""
    own = {entry for entry in sys.path if entry not in start.path} | {"", start.folder}
    entries = {os.path.abspath(entry): entry in own for entry in sys.path}
    for name, module in [*sys.modules.items()]:
        file = getattr(module, "__file__", None) or ""
        if not file.endswith(".py") or name in start.modules or _is_ours(name):
            continue
        above = [entry for entry in entries if Path(file).is_relative_to(entry)]
        if above and entries[max(above, key=len)]:
            del sys.modules[name]


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == paths.PACKAGE.name
