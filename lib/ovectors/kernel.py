"""Private Jupyter kernels: this interpreter, own sockets, one for several chapters in turn."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_core.utils import run_sync
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.iorw import papermill_io
from traitlets import Callable as CallableTrait
from traitlets import Dict, Unicode

from ovectors import leftovers, paths, reach

ENGINE = "ovectors"
_IN_PLACE = "in place:"

_live: set[PrivateKernel] = set()


class _ThisInterpreter(KernelSpecManager):
    """Answers every kernel name with a kernel of the running interpreter.

    Kernel specs installed on the machine are not looked at: the `python3` of a user's Jupyter may
    belong to another environment.
    """

    environment = Dict()

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The running interpreter with a kernel, whatever the name."""
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(
            argv=command, env=dict(self.environment), display_name="Python 3", language="python"
        )


class _Manager(AsyncKernelManager):
    """Jupyter's kernel manager, which forgets its process at shutdown; this one remembers it."""

    process: Any = None

    async def start_kernel(self, **settings: Any) -> None:
        """Start the process as Jupyter does, and remember it."""
        await super().start_kernel(**settings)
        self.process = self.provisioner.process


class PrivateKernel:
    """A kernel that runs one chapter after the other, and what is known of it.

    Attributes:
        manager: Jupyter's kernel manager; papermill starts the kernel through it.
        sources: the library as it was when the kernel was made.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.folder = leftovers.temporary_folder(short=True)
        # Weights that are offloaded to disk go there: it may take much, and must not outlive us.
        self.scratch = leftovers.temporary_folder()
        own = {"IPYTHONDIR": str(self.folder / "ipython"), "TMPDIR": str(self.scratch)}
        own |= environment
        self.manager = _Manager(
            kernel_name="python3",
            kernel_spec_manager=_ThisInterpreter(environment=own),
            transport="tcp" if os.name == "nt" else "ipc",
            connection_file=str(self.folder / "kernel.json"),
        )
        self.sources = reach.sources_of(paths.PACKAGE)
        self._peak, self._counts_peak = 0, True
        self._stop = threading.Event()
        threading.Thread(target=self._sample, daemon=True).start()
        _live.add(self)

    def _process(self) -> Any:
        return self.manager.process or getattr(self.manager.provisioner, "process", None)

    @property
    def started(self) -> bool:
        """Whether it has a process, dead or alive."""
        return self._process() is not None

    @property
    def usable(self) -> bool:
        """Whether it can take another chapter: alive, and of the library as it is now."""
        process = self._process()
        dead = self._stop.is_set() or (process is not None and process.poll() is not None)
        return not dead and self.sources == reach.sources_of(paths.PACKAGE)

    def new_chapter(self) -> None:
        """Begin to count memory anew."""
        if process := self._process():
            try:
                Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # its high-water mark
            except OSError:
                self._counts_peak = False
        self._peak = 0

    @property
    def peak_memory(self) -> int:
        """The most memory the kernel held since `new_chapter`, in bytes.

        What it kept of earlier chapters, the weights above all, counts. Where the system's count
        cannot be begun anew, it is the most that was seen, looking five times a second.
        """
        self._look()
        return self._peak

    def _sample(self) -> None:
        while not self._stop.wait(0.2):
            self._look()

    def _look(self) -> None:
        if process := self._process():
            with contextlib.suppress(psutil.Error, OSError):
                now = _memory_of(process.pid, peak=self._counts_peak)
                self._peak = max(self._peak, now)

    def cause_of_death(self) -> str:
        """Why the kernel is gone, in words: the signal or exit code its process ended with."""
        process = self._process()
        code = process.poll() if process else None
        if code == -signal.SIGKILL:
            return "it was killed (signal 9): most often the machine had run out of memory"
        if code is not None and code < 0:
            return f"it was ended by signal {-code}"
        return f"its process ended with exit code {code}"

    def kill(self) -> None:
        """End the kernel and every process it started, at once, if it is still there."""
        self._stop.set()
        process = self._process()
        if process is None:
            return
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # it leads a process group of its own
        process.wait()

    def close(self) -> None:
        """End it and leave nothing behind: neither process nor files nor sockets."""
        self.kill()
        _live.discard(self)
        with contextlib.suppress(Exception):  # however it died, there is nothing more to do
            run_sync(self.manager.cleanup_resources)()
        for folder in (self.folder, self.scratch):
            shutil.rmtree(folder, ignore_errors=True)


class KernelSlot:
    """Holds the kernel that a worker uses, and makes a new one where there is none to use.

    To be used from one thread.
    """

    def __init__(self) -> None:
        self._kernel: PrivateKernel | None = None

    def get(self, environment: Mapping[str, str]) -> PrivateKernel:
        """The kernel; `environment` is for a new one."""
        if self._kernel is None or not self._kernel.usable:
            self.close()
            self._kernel = PrivateKernel(environment)
        return self._kernel

    def close(self) -> None:
        """End the kernel, if there is one."""
        if self._kernel is not None:
            self._kernel.close()
        self._kernel = None


def kill_all() -> None:
    """End every private kernel of this process: the runs that use them fail at once."""
    for kernel in [*_live]:
        kernel.kill()


def _memory_of(pid: int, *, peak: bool) -> int:
    """Bytes of memory: the `peak` where the system keeps count (Linux), else those now."""
    status = Path(f"/proc/{pid}/status")
    if peak and status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return psutil.Process(pid).memory_info().rss


class NotReady(Exception):
    """A kernel could not be made new for a chapter: it is to be replaced."""


class _Client(PapermillNotebookClient):
    """Papermill's client, which runs some code before the first cell, not shown in the notebook,
    and then calls `prepared`; NotReady where it comes no further."""

    preparation = Unicode()
    prepared = CallableTrait()

    def execute(self, **settings: Any) -> Any:
        """All cells; a death before the first of them is NotReady, a later one is the chapter's."""
        self.began = False
        try:
            return super().execute(**settings)
        except RuntimeError as error:  # it died
            if self.began:
                raise
            raise NotReady(str(error)) from None
        finally:
            if self.kc is not None:
                self.kc.stop_channels()

    def papermill_execute_cells(self) -> None:
        """The preparation, and then the notebook's own cells."""
        silently = {"silent": True, "store_history": False, "allow_stdin": False}
        reply = self.wait_for_reply(self.kc.execute(self.preparation, **silently))["content"]
        if reply["status"] != "ok":
            raise NotReady(f"{reply.get('ename')}: {reply.get('evalue')}")
        self.prepared()
        self.began = True
        super().papermill_execute_cells()


class PrivateKernelEngine(NBClientEngine):
    """Papermill's own engine, on the `PrivateKernel` given as `execute_notebook(..., kernel=)`.

    The kernel goes on living.
    """

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        kernel: PrivateKernel,
        preparation: str,
        on_cell: Callable[[int, int], None] | None = None,
        **settings: Any,
    ) -> Any:
        """Run every cell; leaves the executed notebook in `nb_man.nb`, as papermill expects.

        `preparation` is code that is run first. `on_cell` gets how many cells are done, and of how
        many, after each. NotReady where the preparation fails.
        """
        complete = nb_man.cell_complete

        def completed(cell: Any, cell_index: int, **more: Any) -> None:
            """Tells how many cells are done."""
            complete(cell, cell_index, **more)
            if on_cell is not None:
                on_cell(cell_index + 1, len(nb_man.nb.cells))

        nb_man.cell_complete = completed
        client = _Client(
            nb_man,
            km=kernel.manager,
            kernel_name=kernel_name,
            startup_timeout=settings.get("start_timeout", 60),
            timeout=None,
            preparation=preparation,
            prepared=kernel.new_chapter,
        )
        return client.execute(cleanup_kc=False)


class _InPlace:
    """Reads and writes notebooks for papermill, for one or many threads.

    Papermill's own way changes the folder of the whole process for each file: of two threads that
    do so at once, the later one can leave the process in the other's folder.
    """

    def read(self, path: str) -> str:
        """The text of a file."""
        return Path(path.removeprefix(_IN_PLACE)).read_text("utf-8")

    def write(self, text: str, path: str) -> None:
        """Write a text to a file, whose folder is there."""
        Path(path.removeprefix(_IN_PLACE)).write_text(text, "utf-8")

    def pretty_path(self, path: str) -> str:
        """The path as it is told to people."""
        return path.removeprefix(_IN_PLACE)


def in_place(path: Path) -> str:
    """A path for papermill, under which it leaves the folder of the process alone."""
    return f"{_IN_PLACE}{path}"


papermill_engines.register(ENGINE, PrivateKernelEngine)
papermill_io.register(_IN_PLACE, _InPlace())
