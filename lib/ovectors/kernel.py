"""One private Jupyter kernel per run: this interpreter, its own sockets, gone when the run ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from traitlets import Dict

ENGINE = "ovectors"
# A Unix socket's path has at most 104 bytes on macOS and 108 on Linux.
_LONGEST_FOLDER = 70


_live: set[PrivateKernel] = set()


class _ThisInterpreter(KernelSpecManager):
    """Answers every kernel name with a kernel of the running interpreter.

    Kernel specs installed on the machine are not looked at: the `python3` of a user's Jupyter may
    belong to another environment.
    """

    environment = Dict()

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(
            argv=command, env=dict(self.environment), display_name="Python 3", language="python"
        )


class _Manager(AsyncKernelManager):
    """Jupyter's kernel manager, which forgets its process at shutdown; this one remembers it."""

    process: Any = None

    async def start_kernel(self, **settings: Any) -> None:
        await super().start_kernel(**settings)
        self.process = self.provisioner.process


class PrivateKernel:
    """A kernel that one run uses, and what is known of it afterwards.

    Attributes:
        manager: Jupyter's kernel manager; papermill starts the kernel through it.
        peak_memory: the most memory the kernel held, in bytes, sampled while it ran.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        own = {"IPYTHONDIR": str(folder / "ipython"), **environment}
        self.manager = _Manager(
            kernel_name="python3",
            kernel_spec_manager=_ThisInterpreter(environment=own),
            transport="tcp" if os.name == "nt" else "ipc",
            connection_file=str(folder / "kernel.json"),
        )
        self.peak_memory = 0
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def _process(self) -> Any:
        return self.manager.process or getattr(self.manager.provisioner, "process", None)

    def _sample(self) -> None:
        while not self._stop.wait(0.2):
            if process := self._process():
                with contextlib.suppress(psutil.Error, OSError):
                    self.peak_memory = max(self.peak_memory, _memory_of(process.pid))

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


@contextlib.contextmanager
def private_kernel(environment: Mapping[str, str]) -> Iterator[PrivateKernel]:
    """A `PrivateKernel` with connection files in a short folder of its own, so that any number of
    runs can start at once; when the block ends, however it ends, kernel and folder are gone."""
    folder = _new_folder()
    kernel = PrivateKernel(folder, environment)
    kernel._sampler.start()
    _live.add(kernel)
    try:
        yield kernel
    finally:
        kernel.kill()
        _live.discard(kernel)
        shutil.rmtree(folder, ignore_errors=True)


def kill_all() -> None:
    """End every private kernel of this process: the runs that use them fail at once."""
    for kernel in [*_live]:
        kernel.kill()


def _memory_of(pid: int) -> int:
    """Bytes of memory: the most so far where the system keeps count (Linux), else those now."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return psutil.Process(pid).memory_info().rss


def _new_folder() -> Path:
    """A short temporary folder, named by this process; those of killed processes are removed."""
    usual = tempfile.gettempdir()
    parent = Path(usual if len(os.fsencode(usual)) <= _LONGEST_FOLDER else "/tmp")
    for old in parent.glob("ov-*-*"):
        pid = old.name.split("-")[1]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"ov-{os.getpid()}-", dir=parent))


class PrivateKernelEngine(NBClientEngine):
    """Papermill's own engine, on the `PrivateKernel` given as `execute_notebook(..., kernel=)`."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        kernel: PrivateKernel,
        on_cell: Callable[[int, int], None] | None = None,
        **settings: Any,
    ) -> Any:
        """Run every cell; leaves the executed notebook in `nb_man.nb`, as papermill expects.

        `on_cell` gets how many cells are done, and of how many, after each.
        """
        complete = nb_man.cell_complete

        def completed(cell: Any, cell_index: int, **more: Any) -> None:
            complete(cell, cell_index, **more)
            if on_cell is not None:
                on_cell(cell_index + 1, len(nb_man.nb.cells))

        nb_man.cell_complete = completed
        client = PapermillNotebookClient(
            nb_man,
            km=kernel.manager,
            kernel_name=kernel_name,
            startup_timeout=settings.get("start_timeout", 60),
            timeout=None,
            shutdown_kernel="immediate",
        )
        return client.execute(cleanup_kc=True)


papermill_engines.register(ENGINE, PrivateKernelEngine)
