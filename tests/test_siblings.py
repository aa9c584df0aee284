"""A chapter's pages on several models: one entry in the sidebar, the same numbers, ways between."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

import made_up_book
from made_up_book import BEYOND, RETRIEVAL, STAGES, ZERO_SHOT
from ovectors import pages, runs, siblings


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        made_up_book.make(tmp_path_factory.mktemp("book") / "project", monkeypatch)
        yield made_up_book.build()


def soup(book: Path, document: str) -> BeautifulSoup:
    return BeautifulSoup((book / f"{document}.html").read_text("utf-8"), "html.parser")


def told(page: BeautifulSoup) -> dict | None:
    """What the switch is told on a page."""
    found = re.search(r"window\.ovectorsChapter = (\{.*?\});</script>", str(page))
    return json.loads(found[1]) if found else None


def entries(page: BeautifulSoup) -> list[tuple[str, str, bool]]:
    """The sidebar's entries: words, address, and whether it is where the reader is."""
    links = page.select("nav.bd-docs-nav li.toctree-l1 > a")
    return [
        (link.text.strip(), link["href"], "current" in link.parent.get("class", []))
        for link in links
    ]


def neighbours(page: BeautifulSoup) -> dict[str, str]:
    found = {"prev": page.select_one("a.left-prev"), "next": page.select_one("a.right-next")}
    return {name: link["href"] for name, link in found.items() if link}


def numbers(page: BeautifulSoup) -> list[str]:
    return [one.text.strip() for one in page.select("figcaption .caption-number, .eqno")]


def place(model: str, chapter: str) -> pages.Page:
    return pages.Page(
        place=runs.Place(model=model, chapter=chapter), model=model, is_reference=model == "mini"
    )


def test_pages_are_grouped_by_chapter_and_the_first_is_listed():
    found = [place("mini", "01_a"), place("all", "06_z"), place("gpt2", "01_a")]
    found += [place("gpt2", "02_b"), place("other", "02_b")]
    assert siblings.by_chapter(found) == {
        "runs/mini/01_a": {"mini": "runs/mini/01_a", "gpt2": "runs/gpt2/01_a"},
        "runs/gpt2/02_b": {"gpt2": "runs/gpt2/02_b", "other": "runs/other/02_b"},
    }


def test_two_models_of_one_name_go_by_their_folders():
    first, second = (
        pages.Page(
            place=runs.Place(model=folder, chapter=chapter), model="mine", is_reference=False
        )
        for folder, chapter in (("mine-aaaaaa", "01_a"), ("mine-bbbbbb", "02_b"))
    )
    (_, one), (_, two) = siblings.by_chapter([first, second]).items()
    assert [*one, *two] == ["mine-aaaaaa", "mine-bbbbbb"]


@pytest.mark.book
def test_the_sidebar_lists_each_chapter_once_on_every_page(book):
    listed = [words for words, *_ in entries(soup(book, "index"))]
    assert listed[-5:] == [
        "Stages",
        "Retrieval",
        "Zero-shot on gpt2-medium",
        "Beyond",
        "References",
    ]
    for model, chapters in made_up_book.RUNS.items():
        for chapter in chapters:
            found = entries(soup(book, f"runs/{model}/{chapter}"))
            assert [words for words, *_ in found] == listed
            (current,) = (words for words, _, is_current in found if is_current)
            assert current.startswith(made_up_book.TITLES[chapter])


@pytest.mark.book
def test_links_stay_on_the_model_where_it_has_the_chapter(book):
    page = soup(book, f"runs/gpt2-medium/{RETRIEVAL}")
    addresses = {words: address for words, address, _ in entries(page)}
    assert addresses["Stages"] == f"{STAGES}.html" and addresses["Retrieval"] == "#"
    assert addresses["Beyond"] == f"../gpt2/{BEYOND}.html"
    assert addresses["References"] == "../../references.html"
    assert neighbours(page) == {"prev": f"{STAGES}.html", "next": f"{ZERO_SHOT}.html"}
    large = soup(book, f"runs/gpt2-large/{STAGES}")
    assert neighbours(large) == {"prev": "../../index.html", "next": f"../gpt2/{RETRIEVAL}.html"}
    last = neighbours(soup(book, "references"))
    assert last == {"prev": f"runs/gpt2/{BEYOND}.html"}


@pytest.mark.book
def test_figures_and_equations_have_the_same_numbers_on_every_model(book):
    reference = numbers(soup(book, f"runs/gpt2/{RETRIEVAL}"))
    assert reference == ["(2)#", "Figure 3", "Figure 4"]
    assert numbers(soup(book, f"runs/gpt2-medium/{RETRIEVAL}")) == reference
    front = soup(book, "index").select_one("article a.reference")
    assert front.text == "Figure 4" and front["href"].endswith("#fig-second-04")


@pytest.mark.book
def test_a_figure_that_the_listed_page_lacks_is_counted_on(book):
    assert numbers(soup(book, f"runs/gpt2/{STAGES}"))[1:] == ["Figure 1", "Figure 2"]
    more = numbers(soup(book, f"runs/gpt2-medium/{STAGES}"))
    assert more[1:] == ["Figure 1", "Figure 2", "Figure 3"]


@pytest.mark.book
def test_references_lead_to_the_figures_of_their_own_page(book):
    for model in ("gpt2-medium", "gpt2-large"):
        page = soup(book, f"runs/{model}/{STAGES}")
        link = page.select_one("a.reference:-soup-contains('Figure 2')")
        assert link["href"] == f"#fig-second-01-{model}"
        assert f"A dot on {model}." in page.find(id=f"fig-second-01-{model}").text


@pytest.mark.book
def test_the_switch_is_told_what_there_is(book):
    page = soup(book, f"runs/gpt2-large/{STAGES}")
    assert told(page) == {
        "shown": "gpt2-large",
        "listed": False,
        "models": ["gpt2", "gpt2-medium", "gpt2-large"],  # by size
        "pages": {
            "gpt2": f"../gpt2/{STAGES}.html",
            "gpt2-medium": f"../gpt2-medium/{STAGES}.html",
            "gpt2-large": "",
        },
        "suffixes": ["-gpt2-medium", "-gpt2-large", "-gpt2"],
        "suffix": "-gpt2-large",
    }
    assert told(soup(book, f"runs/gpt2-medium/{ZERO_SHOT}"))["listed"]
    assert told(soup(book, "index")) is None and told(soup(book, "references")) is None


@pytest.mark.book
def test_without_javascript_a_line_names_the_model_and_links_to_the_others(book):
    line = soup(book, f"runs/gpt2/{STAGES}").select_one("h1 + p.ov-model")
    assert line.strong.text == "gpt2"
    links = {link.text: link["href"] for link in line.select("a")}
    assert links == {
        name: f"../{name}/{STAGES}.html?model={name}" for name in ("gpt2-medium", "gpt2-large")
    }


@pytest.mark.book
def test_a_published_page_says_so_and_others_do_not(book):
    said = soup(book, f"runs/gpt2-large/{STAGES}").select_one(".admonition.note").text
    assert "on gpt2-large" in said and "was not run here but published" in said
    assert "published" not in soup(book, f"runs/gpt2-medium/{STAGES}").select_one(".note").text
    for model, where in (("gpt2-medium", STAGES), ("gpt2-large", BEYOND)):
        assert soup(book, f"runs/{model}/{where}").h1.text.startswith(
            f"{made_up_book.TITLES[where]} on {model}"
        )
