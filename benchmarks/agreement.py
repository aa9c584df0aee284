"""Nothing is timed before all contestants give the same numbers, and those of the arithmetic."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.questions import Answer, Question
from ovectors.models import LanguageModel

# An allowed gap is so many roundings of the dtype, times the root of the layers, of the largest
# logit. In bfloat16 a logit's own rounding is most of it.
NOISE = {torch.float32: 16, torch.bfloat16: 4}


class Disagreement(Exception):
    """A contestant gave other numbers: it answered another question, and its time says nothing."""


class Truth:
    """Full logits from a copy of the model in higher precision, one prompt at a time, unpadded.

    Plain hooks on plain modules, no code of any contestant: float64, or float32 where a GPU would
    be too small for a float64 copy.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        exact = torch.float32 if model.device.type == "cuda" else torch.float64
        self.network = copy.deepcopy(model.model).to(exact)
        wiring, blocks = model.architecture, model.architecture.layers_of(self.network)
        self.blocks = list(blocks)
        self.ffns = [wiring.ffn_of(block) for block in blocks]

    @torch.no_grad()
    def sweep(self, question: Question) -> Float[Tensor, "run prompt vocabulary"]:
        """Logits at the last token under each run."""
        given = question.vector.to(self.model.device, self.model.dtype).to(self.network.dtype)

        def hook(_module: nn.Module, _args: tuple, output: Tensor) -> Tensor:
            output = output.clone()
            output[:, slice(None) if question.positions == "all" else slice(-1, None)] = given
            return output

        runs = []
        for start in question.starts:
            with ExitStack() as hooks:
                for ffn in self.ffns[start:]:
                    hooks.callback(ffn.register_forward_hook(hook).remove)
                runs.append([self._last_logits(ids) for ids in question.token_ids])
        return torch.stack([torch.stack(run) for run in runs])

    @torch.no_grad()
    def stages(self, token_ids: Sequence[Sequence[int]]) -> Float[Tensor, "run prompt vocabulary"]:
        """Logits at the last token decoded after each layer."""
        norm = self.model.architecture.final_norm_of(self.network)
        states: list[Tensor] = []

        def keep(_module: nn.Module, _args: tuple, output: Tensor | tuple) -> None:
            state = output[0] if isinstance(output, tuple) else output
            states.append(self.network.get_output_embeddings()(norm(state[0, -1])).cpu())

        with ExitStack() as hooks:
            for block in self.blocks:
                hooks.callback(block.register_forward_hook(keep).remove)
            for ids in token_ids:
                self._last_logits(ids)
        return torch.stack(states).view(len(token_ids), len(self.blocks), -1).transpose(0, 1)

    def _last_logits(self, ids: Sequence[int]) -> Float[Tensor, " vocabulary"]:
        tokens = torch.tensor([list(ids)], device=self.model.device)
        return self.network(tokens, use_cache=False).logits[0, -1].cpu()


def tolerance(model: LanguageModel, truth: Float[Tensor, "run prompt vocabulary"]) -> float:
    """How far a logit may be from the truth: roundings that add up over the layers at random."""
    rounding = torch.finfo(model.dtype).eps
    return NOISE[model.dtype] * rounding * model.n_layers**0.5 * float(truth.abs().max())


def check(
    who: str,
    answer: Answer,
    truth: Float[Tensor, "run prompt vocabulary"],
    question: Question,
    *,
    allowed: float,
) -> dict[str, float | None]:
    """Compare an answer with the truth; Disagreement where a number cannot come from it.

    A logit must be within `allowed`. A rank must be one that logits so close could give: between
    the number of tokens that are larger by more than twice that, and of those that are not smaller
    by more. So must the top token. Returns the largest gap of a logit (None where none is handed
    out) and the share of ranks that are equal to the truth's own.
    """
    gaps, equal = [], []
    for name, ids in question.wanted.items():
        own = truth.gather(2, ids.expand(truth.shape[:2])[..., None])
        if answer.logits is not None:
            gaps.append(float(np.abs(answer.logits[name] - own[..., 0].numpy()).max()))
        ranks = torch.tensor(answer.ranks[name])
        lowest = 1 + (truth > own + 2 * allowed).sum(-1)
        highest = (truth >= own - 2 * allowed).sum(-1)
        wrong = (ranks < lowest) | (ranks > highest)
        equal.append((ranks == 1 + (truth > own).sum(-1)).double().mean())
        if bool(wrong.any()):
            run, prompt = wrong.nonzero()[0].tolist()
            raise Disagreement(
                f"{who}: rank {float(ranks[run, prompt]):g} of the {name} in run {run}, prompt "
                f"{prompt}; it is between {int(lowest[run, prompt])} and "
                f"{int(highest[run, prompt])}"
            )
    if gaps and max(gaps) > allowed:
        raise Disagreement(
            f"{who}: a logit is {max(gaps):.2g} from the truth, allowed is {allowed:.2g}"
        )
    if answer.top.size:
        best = truth.gather(2, torch.tensor(answer.top)[..., None])[..., 0]
        if bool((best < truth.amax(-1) - 2 * allowed).any()):
            raise Disagreement(f"{who}: a top token is not on top")
    return {"logit_gap": max(gaps, default=None), "ranks_equal": float(torch.stack(equal).mean())}


def check_logits(who: str, logits: Tensor, truth: Tensor, *, allowed: float) -> dict[str, float]:
    """The same for a plain pass, whose logits are compared one and all."""
    gap = float((logits.cpu().double() - truth.double()).abs().max())
    if gap > allowed:
        raise Disagreement(f"{who}: a logit is {gap:.2g} from the truth, allowed is {allowed:.2g}")
    return {"logit_gap": gap}
