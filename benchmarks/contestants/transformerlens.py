"""(d) TransformerLens 4.3: `TransformerBridge` around the same weights, and `run_with_hooks`.

Reviewed for fairness:

- The bridge is booted around the model in memory (`hf_model=`), so that the weights are the same.
  It keeps raw weights unless compatibility mode is asked for: nothing is folded or centred. It
  switches attention to the eager form so that patterns can be hooked; that is its documented
  default, and it is left alone.
- A run is one `run_with_hooks` over a batch, with a hook at `blocks.N.mlp.hook_out` from the start
  layer to the last, which is how its documentation intervenes. Hooks change the tensor in place
  and return it, as there.
- Batches have the size that suits the plain pass best, and prompts of like length.
- `start_at_layer` would not help: in the bridge the layers below still run, as its docstring says.
- Logits come back for all tokens: the bridge has no documented way to ask for the last alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import AutoTokenizer

from benchmarks.questions import Answer, Padded, Question, Tally, padded
from ovectors.models import LanguageModel


@contextmanager
def sweep(model: LanguageModel, *, rows: int) -> Iterator[Callable[[Question], Answer]]:
    """One hooked pass a batch and start layer."""
    from transformer_lens.model_bridge import TransformerBridge

    with tempfile.TemporaryDirectory() as folder:  # booting reads the tokenizer again from its own
        model.tokenizer.save_pretrained(folder)
        bridge = TransformerBridge.boot_transformers(
            model.name,
            hf_model=model.model,
            tokenizer=AutoTokenizer.from_pretrained(folder),
            device=model.device,
            dtype=model.dtype,
        )

    @torch.no_grad()
    def ask(question: Question) -> Answer:
        tally = Tally(question)
        vector = question.vector.to(model.device, model.dtype)
        for batch in padded(question.token_ids, rows=rows, device=model.device):
            hook = _replacing(vector, batch, question.positions)
            places = torch.arange(len(batch.rows), device=model.device)
            for run, start in enumerate(question.starts):
                layers = range(start, model.n_layers)
                logits = bridge.run_with_hooks(
                    batch.ids,
                    attention_mask=batch.mask.long(),
                    fwd_hooks=[(f"blocks.{layer}.mlp.hook_out", hook) for layer in layers],
                )
                tally.add(run, batch.rows, logits[places, batch.last])
        return tally.answer()

    yield ask


def _replacing(vector: Tensor, batch: Padded, positions: str) -> Callable[..., Tensor]:
    places = torch.arange(len(batch.rows), device=vector.device)

    def hook(output: Tensor, hook: object) -> Tensor:
        if positions == "all":
            output[:] = vector
        else:
            output[places, batch.last] = vector
        return output

    return hook
