"""GGUF files, whole language models in one rounded file, converted once to ordinary folders.

transformers reads the file and widens its weights; from then on the model is a folder like any
other, in the cache, and says in its manifest where it is from.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import os
import re
import shutil
from collections import Counter
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ovectors import locks, paths, results
from ovectors.catalogue import (
    BYTES,
    MANIFEST,
    Gguf,
    ModelSpec,
    catalogue,
    converted_folder,
    manifest_of,
)
from ovectors.errors import UserError

if TYPE_CHECKING:
    from gguf import GGUFReader

MOST_IN_FLOAT32 = 2_000_000_000
"""Bytes of weights up to which they are stored in float32; above, in bfloat16."""

LINK = r"([\w-][\w.-]*/[\w.-]+):([\w./-]+\.gguf)"


def converted(text: str) -> Path:
    """The folder of the model in a GGUF file: a path, or `owner/name:file.gguf` on the hub.

    It is converted now if it never was. UserError for what is not there or cannot be converted.
    """
    path, hub_id = Path(text).expanduser(), None
    if not path.is_file():
        link = re.fullmatch(LINK, text, re.IGNORECASE)
        if link is None:
            raise UserError(f"there is no file {text}")
        hub_id, file = link.groups()
        for manifest in paths.CACHE.glob(f"*/{MANIFEST}"):
            told = manifest_of(manifest.parent)
            if told and (told["hub_id"], told["gguf"]["file"]) == (hub_id, file):
                return manifest.parent
        path = _from_hub(hub_id, file)
    state = path.stat()
    sha256 = sha256_of(path, state.st_size, state.st_mtime_ns)
    for spec in catalogue().values():
        if spec.gguf and spec.gguf.sha256 == sha256:
            break
    else:
        if known := [*paths.CACHE.glob(f"*-{sha256[:12]}/{MANIFEST}")]:
            return known[0].parent
        name = re.sub(r"[^\w.-]+", "-", path.stem).lstrip(".-") or "model"
        gguf = Gguf(file=path.name, sha256=sha256, bytes=state.st_size, quantisation="")
        folder = converted_folder(name, sha256)
        spec = ModelSpec(name=name, hub_id=hub_id, folder=folder, gguf=gguf)
    return convert(path, spec, source=f"the hub, {text}" if hub_id else f"the file {path.name}")


def _from_hub(hub_id: str, file: str) -> Path:
    """The file in the local Hugging Face cache, got from the hub if it is not there."""
    from huggingface_hub import hf_hub_download

    from ovectors.loading import HUB_TIMEOUT, reason

    try:
        return Path(hf_hub_download(hub_id, file, etag_timeout=HUB_TIMEOUT))
    except Exception as error:  # whatever the network stack of the day raises
        raise UserError(f"{hub_id}:{file} cannot be had from the hub: {reason(error)}") from error


@cache
def sha256_of(path: Path, size: int, changed: int) -> str:
    """The SHA-256 of a file; size and time of change say when to take it again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def convert(path: Path, spec: ModelSpec, *, source: str) -> Path:
    """Convert a GGUF file to the folder of `spec`, unless it is there, and return that folder.

    The folder appears whole or not at all. It says in its manifest what it was converted from:
    `source`, the file's hash, how many tensors are of each type, the dtype stored and versions.
    UserError for a file that transformers cannot read, or would read a part of.
    """
    from ovectors.loading import _plainly

    folder = spec.folder
    paths.CACHE.mkdir(parents=True, exist_ok=True)
    with locks.lock(folder.with_name(f"{folder.name}.lock"), wait=True):
        if manifest_of(folder) is not None:
            return folder
        work = folder.with_name(f"{folder.name}.making")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            bars = contextlib.redirect_stderr(io.StringIO())  # one of them cannot be switched off
            with _plainly("the GGUF file", path.name), bars:
                told = _write(path, work)
            said = told.pop("quantisation")
            told |= {"name": spec.name, "hub_id": spec.hub_id, "source": source}
            told["gguf"] = asdict(spec.gguf)
            told["gguf"]["quantisation"] = spec.gguf.quantisation or said
            told["files"] = {one.name: one.stat().st_size for one in sorted(work.iterdir())}
            results.write_json(work / MANIFEST, told)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(work, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


def _write(path: Path, folder: Path) -> dict:
    """Write config, weights and tokenizer; returns what the manifest says of them."""
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, AutoTokenizer

    reader = GGUFReader(path)
    weights = sum(int(tensor.n_elements) for tensor in reader.tensors)
    dtype = "float32" if weights * BYTES["float32"] <= MOST_IN_FLOAT32 else "bfloat16"
    where = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    here = {"local_files_only": True, "trust_remote_code": False}
    model, info = AutoModelForCausalLM.from_pretrained(
        **where, **here, dtype=getattr(torch, dtype), output_loading_info=True
    )
    tokenizer = AutoTokenizer.from_pretrained(**where, **here)
    if lacking := sorted(info["missing_keys"]):
        raise UserError(f"{path.name} lacks {len(lacking)} tensors, {lacking[0]} among them")
    if ignored := _ignored(reader, model):
        raise UserError(
            f"{path.name} holds {ignored[0]}{' and more' * (len(ignored) > 1)}, which transformers "
            "would ignore: the model would not be the one in the file"
        )
    # What was read from a GGUF file cannot be saved: a fresh model of the same weights can.
    config = copy.deepcopy(model.config)
    del config.quantization_config
    config._name_or_path = ""  # it may be a path of this machine
    with torch.device("meta"):
        fresh = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    fresh.load_state_dict(model.state_dict(), strict=True, assign=True)
    fresh.tie_weights()
    fresh.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # A GGUF file does not say how text is normalised; the class of the family does (Qwen's: NFC).
    AutoTokenizer.from_pretrained(folder, **here).save_pretrained(folder)
    types = Counter(tensor.tensor_type.name for tensor in reader.tensors)
    packages = ("torch", "transformers", "gguf")
    return {
        "quantisation": _quantisation(reader, types),
        "tensors": dict(types.most_common()),
        "dtype": dtype,
        "versions": {package: version(package) for package in packages},
    }


def _ignored(reader: GGUFReader, model) -> list[str]:
    """What of the file is no part of the model that transformers made of it: tensors, and a
    scaling of positions."""
    from transformers.modeling_gguf_pytorch_utils import (
        TENSOR_PROCESSORS,
        TensorProcessor,
        get_gguf_hf_weights_map,
    )

    architecture = str(reader.fields["general.architecture"].contents())
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=model.config.to_dict())
    known = get_gguf_hf_weights_map(model, processor)
    ignored = [tensor.name for tensor in reader.tensors if tensor.name not in known]
    scaling = f"{architecture}.rope.scaling.factor"
    if scaling in reader.fields and "'rope_type': 'default'" in str(model.config.rope_parameters):
        ignored += [scaling] if reader.fields[scaling].contents() not in (0, 1) else []
    return ignored


def _quantisation(reader: GGUFReader, types: Counter) -> str:
    """What the file says it is; else the type of most of its matrices."""
    from gguf import LlamaFileType

    if told := reader.fields.get("general.file_type"):
        try:
            return LlamaFileType(told.contents()).name.removeprefix("MOSTLY_").removeprefix("ALL_")
        except ValueError:  # a recipe that is newer than the package
            pass
    rounded = [(count, name) for name, count in types.items() if name != "F32"]
    return max(rounded)[1] if rounded else "F32"
