"""Getting config, tokenizer and weights, safely, with one plain line for whatever is wrong."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import ERROR, getLogger
from pathlib import Path
from typing import TYPE_CHECKING

from ovectors import terminal
from ovectors.architectures import FAMILIES
from ovectors.catalogue import (
    ModelSpec,
    cached_commit,
    has_tokenizer,
    is_here,
    safetensors_shapes,
    suggestion,
    weight_files,
)
from ovectors.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Constants that older files hold beside the weights: masks, rotary frequencies, positions.
COMPUTED = re.compile(
    r"(^|\.)(attn|attention|self_attention)\.(masked_)?bias$|rotary_emb\.\w+$|(^|\.)position_ids$"
)
TEXTS = (
    "The capital of Poland is Warsaw.",
    " a leading space",
    "two  spaces,\ta tab\n\nand lines\n",
    "12 of 1,945 are 3.14",
    "na\u00efve caf\u00e9",
    "nai\u0308ve cafe\u0301",  # the same, decomposed
    "\u201cit\u2019s\u201d \u2013 don't\u2026",
    "\u65e5\u672c\u8a9e",
    "\U0001f642 \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\ufb01ne \u00bd",
)
"""What a tokenizer is tried on: where normalisers and ways of splitting differ."""
HUB_TIMEOUT = 10  # seconds: a hub that does not answer should not hold up a model that is cached


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a model is read from.

    Attributes:
        location: a hub id or a folder, as `from_pretrained` takes it.
        commit: the commit that is read, or None for a folder.
        cached: only the local cache is used.
    """

    location: str
    commit: str | None = None
    cached: bool = False

    @property
    def arguments(self) -> dict:
        """Keyword arguments that every `from_pretrained` of this model gets: never remote code."""
        here = {"local_files_only": self.cached, "trust_remote_code": False}
        return here | ({"revision": self.commit} if self.commit else {})


def find(spec: ModelSpec, revision: str | None) -> Source:
    """Look where the model is, without loading it; UserError if it is nowhere or not whole."""
    if spec.folder is None:
        return _on_hub(spec, revision or spec.revision)
    if spec.gguf is not None and not is_here(spec):
        size = terminal.size(spec.gguf.bytes)
        raise UserError(f"{spec.name} is not here: `ovectors fetch {spec.name}` gets it ({size})")
    if revision is not None:
        raise UserError(f"{spec.name} is a local folder, which has no revisions")
    _check_folder(spec.folder)
    return Source(location=str(spec.folder), cached=True)


def _check_folder(folder: Path) -> None:
    """Refuse a folder that is not a whole model, before anything heavy is imported."""
    tokenizer = has_tokenizer(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    if not (folder / "config.json").is_file():
        what = "a tokenizer but no model: it lacks" if tokenizer else "no model: it lacks"
        raise UserError(f"{folder} holds {what} config.json and weights")
    stored = weight_files(folder)
    if not stored:
        raise UserError(f"{folder} has no weights (model.safetensors or pytorch_model.bin)")
    if not tokenizer:
        raise UserError(f"{folder} has a model but no tokenizer (tokenizer.json)")
    for path in stored:
        if path.suffix == ".safetensors":
            safetensors_shapes(path)


def _on_hub(spec: ModelSpec, revision: str | None) -> Source:
    """Turn a branch into the commit it stands for now: one state of the repository is read."""
    commit = revision if revision and re.fullmatch(r"[0-9a-f]{40}", revision) else None
    location = str(spec.hub_id)
    if commit and is_here(spec, commit):
        return Source(location=location, commit=commit, cached=True)
    from huggingface_hub import HfApi
    from huggingface_hub import errors as hub

    try:
        commit = HfApi().model_info(location, revision=revision, timeout=HUB_TIMEOUT).sha
    except hub.RevisionNotFoundError as error:
        raise UserError(f"{location} has no revision {revision!r} on the hub") from error
    except hub.GatedRepoError as error:
        raise UserError(_gated(location)) from error
    except (hub.RepositoryNotFoundError, hub.HFValidationError) as error:
        near = suggestion(location)
        raise UserError(f"there is no model {location!r} here nor on the hub{near}") from error
    except Exception as error:  # whatever the network stack of the day raises
        if is_here(spec, revision):
            commit = cached_commit(spec, revision)
            return Source(location=location, commit=commit, cached=True)
        raise UserError(
            f"the hub cannot be reached ({reason(error)}), and {location} is neither a folder "
            "here nor in the local cache: connect once, or give a local folder"
        ) from error
    here = is_here(spec, commit)
    return Source(location=location, commit=commit, cached=here)


def _gated(location: str) -> str:
    return (
        f"{location} is gated: accept its licence on the hub and log in with `hf auth login`, "
        "then try again"
    )


def reason(error: BaseException) -> str:
    """The first line of an error, short enough for one line of ours."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    return first if len(first) <= 160 else f"{first[:157]}..."


@contextmanager
def _plainly(what: str, location: str) -> Iterator[None]:
    """Quiet Hugging Face's logs, and turn whatever it raises into one line (the cause is kept)."""
    from huggingface_hub.errors import GatedRepoError
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    offloading = getLogger("accelerate.big_modeling")  # it tells what the device map says anyway
    level = offloading.level
    logging.set_verbosity_error()
    offloading.setLevel(ERROR)
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, GatedRepoError) or isinstance(error.__cause__, GatedRepoError):
            raise UserError(_gated(location)) from error
        raise UserError(f"{what} of {location} cannot be loaded: {reason(error)}") from error
    finally:
        logging.set_verbosity(before)
        offloading.setLevel(level)
        if bars:
            logging.enable_progress_bar()


def load_config(source: Source) -> PretrainedConfig:
    """The config; UserError for what is no causal language model that transformers knows."""
    with _plainly("the config", source.location):
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PretrainedConfig
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        raw, _ = PretrainedConfig.get_config_dict(source.location, **source.arguments)
        family = raw.get("model_type")
        config = (
            AutoConfig.from_pretrained(source.location, **source.arguments)
            if (family in CONFIG_MAPPING)
            else None
        )
        if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or not hasattr(
            config, "num_hidden_layers"
        ):
            raise UserError(
                f"{source.location} is of architecture {family!r}, which is not supported: "
                f"supported are {', '.join(FAMILIES)}, and other causal language models of "
                "transformers whose wiring can be found"
            )
        return config


def load_tokenizer(source: Source, config: PretrainedConfig) -> PreTrainedTokenizerBase:
    """The tokenizer; UserError if it is missing, is another model's, or gives other ids than its
    own `tokenizer.json`."""
    with _plainly("the tokenizer", source.location):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(source.location, **source.arguments)
        _check_ids(source, tokenizer)
    # Without its files, transformers makes up a tokenizer of a few special tokens.
    if tokenizer.vocab_size < 10:
        raise UserError(f"{source.location} has a model but no tokenizer")
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"the tokenizer of {source.location} has {tokenizer.vocab_size} tokens, its model "
            f"{config.vocab_size}: they do not belong together"
        )
    return tokenizer


def _check_ids(source: Source, tokenizer: PreTrainedTokenizerBase) -> None:
    """The class that the tokenizer's config names may drop the normaliser of `tokenizer.json`, or
    split by its own rule: the model would read other tokens than it was trained on."""
    from tokenizers import Tokenizer
    from transformers.utils import cached_file

    path = cached_file(
        source.location,
        "tokenizer.json",
        revision=source.commit,
        local_files_only=True,  # it has just been fetched, if it is there at all
        _raise_exceptions_for_missing_entries=False,
    )
    if path is None:
        return
    own = Tokenizer.from_file(path)
    own.no_truncation()
    own.no_padding()
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        if ids != own.encode(text, add_special_tokens=False).ids:
            raise UserError(
                f"the tokenizer of {source.location}, loaded as {type(tokenizer).__name__}, gives "
                f"{text!a} other ids than its own tokenizer.json: a class that does not fit is "
                "named in tokenizer_config.json, or taken by transformers for this family"
            )


def load_weights(
    source: Source, config: PretrainedConfig, *, dtype: torch.dtype, device_map: object
) -> PreTrainedModel:
    """The model with its weights, in evaluation mode.

    safetensors where there are any, else PyTorch's weights-only format: a file that holds more than
    tensors is refused, never unpickled. UserError where weights are missing or do not fit: left to
    itself, transformers would fill them with random numbers.
    """
    # It would ask a public service to convert the repository, from a thread of its own.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    offload = tempfile.TemporaryDirectory(prefix="ovectors-offload-")
    placed = {"device_map": device_map, "offload_folder": offload.name} if device_map else {}
    with _plainly("the weights", source.location):
        from transformers import AutoModelForCausalLM

        model, info = AutoModelForCausalLM.from_pretrained(
            source.location,
            config=config,
            dtype=dtype,
            weights_only=True,
            output_loading_info=True,
            **placed,
            **source.arguments,
        )
    if missing := sorted(info["missing_keys"]):
        raise UserError(
            f"the weights of {source.location} lack {len(missing)} tensors, {missing[0]} among "
            "them: the file is not whole, or its config is another model's"
        )
    if ignored := sorted(key for key in info["unexpected_keys"] if not COMPUTED.search(key)):
        raise UserError(
            f"the weights of {source.location} hold {len(ignored)} tensors that its config has no "
            f"place for, {ignored[0]} among them: they do not belong together"
        )
    weakref.finalize(model, offload.cleanup)
    return model.eval()
