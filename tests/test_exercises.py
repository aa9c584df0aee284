"""The exercises at the end of each chapter: folded solutions whose code runs and is right."""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from ovectors import notebooks, stream
from ovectors.encoding import encode_relation
from ovectors.forking.cells import EXERCISES_TAG
from ovectors.models import load_model
from ovectors.relations import MORE_RELATIONS, load_relation

CHAPTERS = [one for one in notebooks.find_chapters() if one.number <= 7]
NAMES = [one.name for one in CHAPTERS]
EXERCISE = re.compile(r"^\*\*(\d)\. [^*]+\*\* .+$", re.MULTILINE)
SOLUTION = re.compile(
    r"^:::\{admonition\} Solution\n:class: dropdown\n\n(.+?)^:::$", re.MULTILINE | re.DOTALL
)
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MEASURED = re.compile(r"\d\.\d|\d%")
"""What a measured number looks like."""


@dataclass(frozen=True)
class Block:
    """The code of one solution."""

    chapter: int
    number: int
    code: str

    def __str__(self) -> str:
        return f"{self.chapter}.{self.number}"


def text_of(chapter: notebooks.Chapter) -> str:
    cells = notebooks.read_notebook(chapter.path).cells
    (cell,) = (one for one in cells if EXERCISES_TAG in one.metadata.get("tags", []))
    assert cell is cells[-2] and cell.cell_type == "markdown"  # before the one that finishes
    return cell.source


BLOCKS = [
    Block(chapter=chapter.number, number=number, code=code)
    for chapter in CHAPTERS
    for number, solution in enumerate(SOLUTION.findall(text_of(chapter)), start=1)
    for code in CODE.findall(solution)
]


def printed(block: Block, model: Path | str, folder: Path) -> str:
    """What a solution prints where it is run on this model, in this folder."""
    code = block.code.replace('"mini-2m"', repr(str(model)))
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, f"exercise {block}", "exec"), {})
    return out.getvalue()


def block(name: str) -> Block:
    return next(one for one in BLOCKS if str(one) == name)


def numbers(line: str) -> list[float]:
    return [float(one) for one in re.findall(r"-?\d+\.\d+", line)]


@pytest.fixture(autouse=True)
def own_store(monkeypatch):
    monkeypatch.delenv("OVECTORS_STORE", raising=False)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=NAMES)
def test_every_exercise_has_a_folded_solution_and_one_of_them_has_code(chapter):
    text = text_of(chapter)
    exercises = EXERCISE.findall(text)
    assert exercises == [str(number) for number in range(1, len(exercises) + 1)]
    assert 2 <= len(exercises) <= 4 and len(SOLUTION.findall(text)) == len(exercises)
    assert any(one.chapter == chapter.number for one in BLOCKS)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=NAMES)
def test_no_measured_number_is_typed(chapter):
    prose = CODE.sub("", text_of(chapter))
    assert not MEASURED.findall(prose)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_the_code_of_every_solution_runs(block, untrained_folder, tmp_path):
    assert len(printed(block, untrained_folder, tmp_path).strip().splitlines()) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in BLOCKS if "mini-2m" in b.code], ids=str)
def test_the_code_of_every_solution_finds_something_on_the_embedded_model(block, tmp_path):
    said = printed(block, "mini-2m", tmp_path)
    assert said.strip() and not re.search(r"\bnan\b", said)


@pytest.mark.slow
def test_the_third_token_of_chapter_1_is_another_item_s_answer(tmp_path):
    said = printed(block("1.3"), "mini-2m", tmp_path).splitlines()
    model = load_model("mini-2m", device="cpu")
    encoded = encode_relation(model, "world_capitals", "one_shot", n_items=100)
    ids = encoded.answer_ids.tolist()
    body, head = model.model.transformer, model.model.lm_head
    found = {"own": [], "another": []}
    for row, own, another in zip(encoded.token_ids, ids, ids[-1:] + ids[:-1], strict=True):
        with torch.no_grad():
            ran = body(torch.tensor([row]), output_hidden_states=True)
            scores = [head(body.ln_f(one[0, -1])) for one in ran.hidden_states[1:-1]]
        for name, token in (("own", own), ("another", another)):
            found[name].append([1 / (1 + (one > one[token]).sum().item()) for one in scores])
    for line, ranks in zip(said, found.values(), strict=True):
        wanted = torch.tensor(ranks, dtype=torch.float64).mean(dim=0).tolist()
        assert numbers(line)[:-1] == pytest.approx(wanted, abs=0.006)
    assert numbers(said[0]) != numbers(said[1])


@pytest.mark.slow
def test_the_mean_cosine_of_chapter_2_is_that_of_all_pairs(tmp_path):
    said = printed(block("2.3"), "mini-2m", tmp_path).splitlines()
    model = load_model("mini-2m", device="cpu")
    encoded = encode_relation(model, "past_tense", "one_shot", n_items=50)
    vectors = stream.record(model, encoded, parts=["ffn"])["ffn"].double()
    for line, these in zip(said, (vectors, vectors - vectors.mean(1, keepdim=True)), strict=True):
        for found, layer in zip(numbers(line), these, strict=True):
            cosines = [
                torch.cosine_similarity(one, two, dim=0).item()
                for i, one in enumerate(layer)
                for j, two in enumerate(layer)
                if i != j
            ]
            assert found == pytest.approx(sum(cosines) / len(cosines), abs=0.006)


@pytest.mark.slow
def test_chapter_4_removes_the_layers_that_it_says(tmp_path):
    said = printed(block("4.1"), "mini-2m", tmp_path).splitlines()
    model = load_model("mini-2m", device="cpu")
    layers, third = list(model.model.transformer.h), -(-model.n_layers // 3)
    for form, line in zip(("one_shot", "extractive"), said, strict=True):
        encoded = encode_relation(model, "world_capitals", form, n_items=60)
        shares = [
            accuracy_without(model, encoded, removed)
            for removed in ([], layers[:third], layers[-third:])
        ]
        assert line.startswith(form) and len(set(shares)) > 1
        assert numbers(line) == pytest.approx(shares, abs=0.006)


def accuracy_without(model, encoded, removed) -> float:
    """Share of prompts answered, one pass each, with nothing from the FFNs of some layers."""
    with contextlib.ExitStack() as hooks, torch.no_grad():
        for layer in removed:
            handle = layer.mlp.register_forward_hook(lambda *ran: torch.zeros_like(ran[-1]))
            hooks.callback(handle.remove)
        tops = [
            model.model(torch.tensor([row])).logits[0, -1].argmax().item()
            for row in encoded.token_ids
        ]
    return sum(map(int.__eq__, tops, encoded.answer_ids.tolist())) / len(tops)


def test_chapter_7_counts_the_commonest_answers(tmp_path):
    said = printed(block("7.1"), "mini-2m", tmp_path).splitlines()
    wanted = set()
    for name in MORE_RELATIONS:
        answers = [item.answer for item in load_relation(name).items]
        if max(Counter(answers).values()) * 10 > len(answers):
            wanted.add(name)
    assert {line.split(":")[0] for line in said} == wanted and wanted
