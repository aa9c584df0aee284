"""A small book of made-up runs: a few chapters on three models, one of which is only published.

chapter          gpt2   gpt2-medium   gpt2-large
1 stages         run    run           published
4 retrieval      run    run
5 zero-shot             run
7 beyond         run                  published
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
import yaml

import trivial
from made_up_runs import RETRIEVAL, STAGES, make_project, stages_of, write_run
from ovectors import building, record

REPOSITORY = Path(__file__).resolve().parents[1]
ZERO_SHOT, BEYOND = "05_zero_shot", "07_beyond"
RUNS = {
    "gpt2": (STAGES, RETRIEVAL, BEYOND),
    "gpt2-medium": (STAGES, RETRIEVAL, ZERO_SHOT),
    "gpt2-large": (STAGES, BEYOND),
}
PUBLISHED = "gpt2-large"
TITLES = {STAGES: "Stages", RETRIEVAL: "Retrieval", ZERO_SHOT: "Zero-shot", BEYOND: "Beyond"}
DOT = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PYTHON = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}
INDEX = """# Index

{{fig}}`{figure}`

```{{include}} findings.md
```
"""


def make(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the project and work in it; returns its root."""
    root = trivial.enter(make_project(folder), monkeypatch)
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    for name in ("_config.yml", "book/references.bib", "book/references.md"):
        shutil.copy(REPOSITORY / name, root / name)
    shutil.copytree(REPOSITORY / "book" / "_static", root / "book" / "_static")
    (root / "book" / "index.md").write_text(INDEX.format(figure=figures_of(RETRIEVAL)[1]))
    (root / "_toc.yml").write_text(yaml.safe_dump(toc()))
    for chapter in TITLES:
        path = trivial.write_chapter(root, chapter, text=text_of(chapter))
        source = nbformat.read(path, as_version=4)
        source.cells += [figure_cell(name, "any model") for name in figures_of(chapter)]
        nbformat.write(source, path)
    for model, chapters in RUNS.items():
        for chapter in chapters:
            claims = stages_of(model) if chapter == STAGES else []
            write_run(chapter, model, claims, notebook=executed(chapter, model))
    record.publish(PUBLISHED)
    shutil.rmtree(root / "book" / "runs" / PUBLISHED)
    return root


def build() -> Path:
    """Build the book of the project that is worked in; returns the folder of its pages."""
    return building.build_book(report=lambda line: None).parent


def toc() -> dict:
    """Every chapter, as if the reference model had them all."""
    chapters = [{"file": f"runs/gpt2/{name}"} for name in TITLES]
    back = {"caption": "Back", "chapters": [{"file": "references"}]}
    return {"format": "jb-book", "root": "index", "parts": [{"chapters": chapters}, back]}


def figures_of(chapter: str) -> list[str]:
    """The labels of a chapter's figures."""
    return [f"fig-first-{chapter[:2]}", f"fig-second-{chapter[:2]}"]


def text_of(chapter: str) -> str:
    """What a chapter says: references to its figures and equation, and room to scroll."""
    number, (first, second) = chapter[:2], figures_of(chapter)
    filler = "\n\n".join(["Some words."] * 40)
    return (
        f"# {TITLES[chapter]}\n\nSee {{numref}}`{first}`, "
        f"{{numref}}`{second}` and {{eq}}`eq-{number}`, {{cite:p}}`merullo2024`.\n\n"
        f"$$\na = b\n$$ (eq-{number})\n\n## One section\n\n{filler}\n\n"
        f"(start-{number})=\n## Another section\n\n{filler}"
    )


def executed(chapter: str, model: str) -> nbformat.NotebookNode:
    """The chapter as it was executed: on gpt2-medium with one more figure than on gpt2."""
    names = figures_of(chapter)
    names += ["fig-more"] if model == "gpt2-medium" and chapter == STAGES else []
    cells = [
        nbformat.v4.new_markdown_cell(text_of(chapter)),
        *(figure_cell(name, model) for name in names),
        nbformat.v4.new_markdown_cell(f"The numbers of {model}."),
    ]
    return nbformat.v4.new_notebook(cells=cells, metadata=PYTHON)


def figure_cell(name: str, model: str) -> nbformat.NotebookNode:
    """A cell that has drawn a figure."""
    output = nbformat.v4.new_output("display_data", data={"image/png": DOT})
    figure = {"caption": f"A dot on {model}.", "name": name}
    shown = {"figure": figure, "image": {"alt": "A dot that says nothing at all"}}
    return nbformat.v4.new_code_cell("draw()", outputs=[output], metadata={"mystnb": shown})
