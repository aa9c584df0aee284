"""The keys of runs and of stored tables: hashes over everything that can change what is found.

A run's key goes by whole modules, without comments and docstrings: executing a notebook again costs
little where its tables are kept. A table's key goes by definitions (`reach`): only what its numbers
can depend on.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ovectors import catalogue, made_on, notebooks, paths, reach, results
from ovectors.definitions import without_words

# What a local model folder holds beside its weights that changes what the model does.
_MODEL_FILES = (
    "config.json",
    "tokenizer*",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)
# models.toml does not count: the entry of the model that runs is part of its identity, and a new
# entry changes nothing for the others.
_DATA_SUFFIXES = (".csv", ".json", ".toml", ".txt", ".yaml")
# How the store comes by the model that it hands to an experiment.
_OPENING = ("ovectors.models", "load_model")


def key_parts(
    chapter: notebooks.Chapter,
    parameters: Mapping[str, Any],
    spec: catalogue.ModelSpec,
    *,
    identity: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything the key is made of, part by part, so that it can be said which part changed.

    chapter: the notebook's source; library: the code of the modules it uses, directly or not, and
    data: the package's data files and the chapter's own, both file by file; model: which weights,
    `identity` where that is known otherwise; parameters: all of them, defaults included; versions:
    of Python and the packages that compute.
    """
    return {
        **source_parts(chapter),
        "model": model_identity(spec) if identity is None else dict(identity),
        "parameters": {**results.plain(parameters), "model": spec.name},
        "versions": results.versions(),
        "device": device_class(str(parameters.get("device", "auto"))),
    }


def source_parts(chapter: notebooks.Chapter) -> dict[str, Any]:
    """The parts of a key that come from this checkout alone: chapter, library and data."""
    return {
        "chapter": notebooks.source_hash(chapter.path),
        "library": _hashes(library_sources(notebooks.code_of(chapter.path)), read=_code),
        "data": _hashes(_data_files()) | _hashes(chapter.own_files, below=chapter.path.parent),
    }


def table_parts(
    function: str,
    settings: Mapping[str, Any],
    spec: catalogue.ModelSpec,
    *,
    device: str,
    dtype: str,
    sources: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Everything that can change a stored table, part by part.

    `function` is the experiment, as `module:name`. `sources` are hashes of more that it is made
    of, where it is not in this package: then all of the package counts, since what such a function
    reaches is not followed.
    """
    found = reached_by(function if sources is None else None, reach.sources_of(paths.PACKAGE))
    read = [path for path in _data_files() if found.everything or _is_read(path, found)]
    return {
        "experiment": function,
        "settings": results.plain(settings),
        "library": {**found.hashes, **(sources or {})},
        "data": _hashes(read),
        "model": model_identity(spec),
        "dtype": dtype,
        "device": device_class(device),
        "versions": results.versions(),
    }


def reached_by(function: str | None, sources: reach.Sources) -> reach.Reached:
    """What an experiment of these sources and the loading of its model reach; all for None."""
    module, _, name = (function or "").partition(":")
    root = (module, name.partition(".")[0]) if function else reach.UNKNOWN
    return reach.reached_in(sources, (_OPENING, root))


def _is_read(path: Path, found: reach.Reached) -> bool:
    """Relations are read by names that only settings know: those of `data/` all count."""
    return path.is_relative_to(paths.PACKAGE / "data") or path.name in found.strings


def key_of(parts: Mapping[str, Any]) -> str:
    """The SHA-256 of the parts, as hexadecimal digits."""
    return text_hash(json.dumps(parts, sort_keys=True))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """In which entries two keys differ, one line each: `library: lens.ranks is another`."""
    told = []
    for name in changed_parts(old, new):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            told += sorted(f"{name}: {line}" for line in differences(before, after))
        else:
            told.append(_said(name, old, new))
    return told


def _said(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """How an entry differs; what is long is a hash, which tells nobody anything."""
    if name not in old:
        return f"{name} is new"
    if name not in new:
        return f"{name} is gone"
    before, after = (json.dumps(one[name], ensure_ascii=False) for one in (old, new))
    if re.search(r"[0-9a-f]{16}", before + after) or len(before + after) > 100:
        return f"{name} is another"
    return f"{name} was {before}, is {after}"


def changed_parts(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The names of the parts in which two keys differ."""
    return [name for name in {**new, **old} if old.get(name) != new.get(name)]


def model_identity(spec: catalogue.ModelSpec) -> dict[str, Any]:
    """Which weights a model means: hub id and commit, the hash of the GGUF file that it was
    converted from, or the hashes of a local folder's files.

    A hub model that was never downloaded and has no pinned revision has the commit None.
    """
    identity = {"name": spec.name, "dtype": spec.dtype}
    if spec.gguf is not None:  # the same wherever the folder is, and before it is fetched
        return {**identity, "gguf": spec.gguf.sha256}
    if spec.folder is None:
        commit = catalogue.cached_commit(spec, spec.revision) or spec.revision
        return {**identity, "hub_id": spec.hub_id, "commit": commit}
    found = {path for pattern in _MODEL_FILES for path in spec.folder.glob(pattern)}
    found.update(catalogue.weight_files(spec.folder))
    files = sorted(path for path in found if path.is_file())
    return {**identity, "files": {path.name: _remembered_hash(path) for path in files}}


def device_class(device: str) -> str:
    """`cpu`, `cuda` or `mps`: what a device means here, told without importing torch.

    Where only tables made on some device count (`made_on`), "auto" means that one.
    """
    if device != "auto":
        return device.split(":")[0]
    if elsewhere := made_on.device():
        return elsewhere
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return "cuda" if Path("/proc/driver/nvidia/version").exists() and not hidden else "cpu"


def library_sources(code: Iterable[str]) -> list[Path]:
    """The files of this package that the code imports, and those that these import, and so on.

    Imports are read from the source, inside functions too but not those for type checkers alone,
    and nothing is run. Code that Python cannot parse counts as using the whole package.
    """
    try:
        waiting = [name for source in code for name in _imports(source, package="")]
    except SyntaxError:
        return sorted(paths.PACKAGE.rglob("*.py"))
    known: set[Path] = set()
    while waiting:
        for path in _files_of(waiting.pop()):
            if path not in known:
                known.add(path)
                inside = path.relative_to(paths.PACKAGE.parent).parent
                with contextlib.suppress(SyntaxError):  # who imports it gets no further
                    waiting += _imports(path.read_text("utf-8"), package=".".join(inside.parts))
    return sorted(known)


@cache
def _imports(source: str, *, package: str) -> tuple[str, ...]:
    """Dotted names that the source imports; `from a import b` gives both `a` and `a.b`."""
    names = []
    for node in _executed(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            above = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.split(".")[0] == paths.PACKAGE.name)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below, but those under `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from _executed(child)


def _files_of(name: str) -> list[Path]:
    """The files that importing a dotted name of this package runs: its packages' and its own."""
    files, folder = [], paths.PACKAGE.parent
    for part in name.split("."):
        files += [folder / f"{part}.py", folder / part / "__init__.py"]
        folder /= part
    return [path for path in files if path.is_file()]


def _data_files() -> list[Path]:
    inside = (paths.PACKAGE / "data").rglob("*")
    data = (path for path in inside if path.suffix in _DATA_SUFFIXES and path.is_file())
    return [*sorted(data), paths.PACKAGE / "published.toml"]


def _content(path: Path) -> bytes:
    """What a file holds; line ends do not count."""
    return path.read_bytes().replace(b"\r\n", b"\n")


def _code(path: Path) -> bytes:
    """What a module holds, without comments and docstrings."""
    return without_words(_content(path).decode()).encode()


def _hashes(
    files: Iterable[Path],
    *,
    below: Path | None = None,
    read: Callable[[Path], bytes] = _content,
) -> dict[str, str]:
    """A hash of what is read of each file, by its path in the package, or in another folder."""
    below = below or paths.PACKAGE
    named = ((path.relative_to(below).as_posix(), read(path)) for path in files)
    return {name: hashlib.sha256(content).hexdigest()[:16] for name, content in named}


@cache
def _remembered_hash(path: Path) -> str:
    """The hash of a file that may be tens of gigabytes, computed again only when the file changed.

    Size and time of change vouch for it; what is remembered lies beside the runs and may be
    deleted at any time.
    """
    state = path.stat()
    mark = [state.st_size, state.st_mtime_ns]
    if state.st_size < 1 << 26:
        return results.sha256_of(path)
    store = paths.RUNS / ".hashes.json"
    try:
        remembered = json.loads(store.read_text())
    except (OSError, ValueError):
        remembered = {}
    name = str(path.resolve())
    if remembered.get(name, [None])[0] != mark:
        remembered[name] = [mark, results.sha256_of(path)]
        store.parent.mkdir(parents=True, exist_ok=True)
        results.write_json(store, remembered)
    return remembered[name][1]


def text_hash(text: str) -> str:
    """The SHA-256 of a text, as hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()
