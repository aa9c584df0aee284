"""What hand-written pages quote is what the code and the results say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ovectors import claims, fragments, notebooks, pages, paths, studies
from ovectors.catalogue import catalogue
from ovectors.labels import own_labels

REPOSITORY = Path(__file__).resolve().parents[1]
BOOK = REPOSITORY / "book"
WRITTEN = sorted(BOOK.glob("*.md"))


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    monkeypatch.setattr(paths, "ROOT", REPOSITORY)


def test_the_rules_are_the_codes_own():
    said = fragments.rules_markdown()
    assert all(rule.sentence in said and rule.question in said for rule in claims.RULES.values())


def test_pages_quote_only_constants_that_exist():
    quoted = {
        n for page in WRITTEN for n in re.findall(r"\{\{ (\w+) \}\}", page.read_text("utf-8"))
    }
    assert quoted and quoted <= fragments.substitutions().keys()
    assert fragments.substitutions()["least_items"] == str(claims.LEAST_ITEMS)


def test_pages_point_to_chapters_and_figures_that_exist():
    chapters = notebooks.find_chapters(REPOSITORY / "chapters")
    labels = {name for one in chapters for name in own_labels(notebooks.read_notebook(one.path))}
    texts = [page.read_text("utf-8") for page in WRITTEN]
    figures = {name for text in texts for name in re.findall(r"\{fig\}`([^`]+)`", text)}
    named = {
        name for text in texts for name in re.findall(r"\{chapter\}`(?:[^`<]*<)?([^`<>]+)>?`", text)
    }
    assert figures and figures <= labels
    assert named and named <= {chapter.name for chapter in chapters}


def test_every_figure_of_the_book_is_in_the_list_of_figures():
    found = notebooks.find_chapters(REPOSITORY / "chapters")
    chapters = [one for one in found if not studies.read_rules(one.name)]
    labels = {name for one in chapters for name in own_labels(notebooks.read_notebook(one.path))}
    listed = set(re.findall(r"\{fig\}`([^`]+)`", (BOOK / "paper_figures.md").read_text("utf-8")))
    assert listed == {name for name in labels if name.startswith("fig-")}


def test_every_page_is_in_the_table_of_contents():
    entries = set(pages._files(yaml.safe_load((REPOSITORY / "_toc.yml").read_text("utf-8"))))
    made = {Path(name).stem for name in fragments.ROOT_FILES.values() if name.endswith(".md")}
    assert entries - {one for one in entries if one.startswith("runs/")} == (
        {page.stem for page in WRITTEN} - {"index"} | made
    )


def test_every_work_of_the_bibliography_is_cited():
    keys = set(re.findall(r"@\w+\{(\w+),", (BOOK / "references.bib").read_text("utf-8")))
    sources = [*WRITTEN, *(REPOSITORY / "chapters").glob("*.ipynb")]
    cited = {
        key.strip()
        for source in sources
        for group in re.findall(r"\{cite:\w+\}`([^`]+)`", source.read_text("utf-8"))
        for key in group.split(",")
    }
    assert cited == keys


def test_models_without_results_are_named(monkeypatch):
    monkeypatch.setattr(fragments.comparison, "gather", lambda: [])
    said = fragments.not_run_markdown()
    assert "**With results:** none." in said
    assert all(f"`{one.name}`" in said for one in catalogue().values() if one.group != "miniature")


def test_the_citation_on_the_page_is_the_papers():
    bibliography = (BOOK / "references.bib").read_text("utf-8")
    end = re.search(r':end-before: "(.+)"', (BOOK / "how_to_cite.md").read_text("utf-8"))[1]
    shown = bibliography[: bibliography.index(end)]
    assert re.findall(r"@\w+\{(\w+),", shown) == ["merullo2024"]


def test_the_changelog_knows_the_version():
    version = re.search(r'^version = "(.+)"', (REPOSITORY / "pyproject.toml").read_text(), re.M)[1]
    assert f"## {version}" in (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
