"""The book is built from whole runs, offline, without a warning, or not at all."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
import yaml

import trivial
from ovectors import batch, building, labels, notebooks, pages, paths, runs
from ovectors.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[1]

TEXT = """# A trivial chapter

See {numref}`fig-one`, {eq}`eq-one` and [the start](#start).

(start)=
## Start

$$
a = b
$$ (eq-one)
"""
INDEX = """# Index

A book {cite:p}`merullo2024`.

```{include} findings.md
```
"""
FIGURE = """
import base64
from IPython.display import Image
Image(base64.b64decode("%s"))
"""
DOT = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PRINTED = """
from IPython.display import Markdown
manifest = run.finish()
Markdown(f"| n | model |\\n|---|---|\\n| {n_items} | {model.rpartition('/')[2]} |")
"""
CAPTION = {"mystnb": {"figure": {"caption": "One dot, see {eq}`eq-one`.", "name": "fig-one"}}}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with the real settings, a hand-written page and a chapter with labels."""
    root = trivial.enter(trivial.make_project(tmp_path / "project"), monkeypatch)
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    for name in ("_config.yml", "book/references.bib", "book/references.md"):
        shutil.copy(REPOSITORY / name, root / name)
    (root / "book" / "index.md").write_text(INDEX)
    model = runs.place_of(notebooks.find_chapters()[0], batch.model_spec("./a-model")).model
    toc = {"format": "jb-book", "root": "index", "parts": []}
    chapters = [{"file": f"runs/{model}/{name}"} for name in ("01_first", "02_second")]
    toc["parts"] = [
        {"caption": "Chapters", "chapters": chapters},
        {"caption": "Back", "chapters": [{"file": "references"}]},
    ]
    (root / "_toc.yml").write_text(yaml.safe_dump(toc))
    write_labelled_chapter(root)
    return root


def write_labelled_chapter(root: Path, text: str = TEXT) -> None:
    extra, last = FIGURE.strip() % DOT, PRINTED.strip()
    path = trivial.write_chapter(root, text=text, extra=extra, last=last)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[3].metadata.update(CAPTION)
    nbformat.write(notebook, path)


def run(project: Path, *models: str, **given) -> None:
    jobs = batch.plan(models or ["./a-model"], notebooks.find_chapters(), given)
    outcomes = batch.run_jobs(jobs, report=lambda line: None)
    assert all(one.kind in ("done", "current") for one in outcomes), outcomes


def build() -> tuple[Path, list[str]]:
    said: list[str] = []
    return building.build_book(report=said.append), said


class Page(HTMLParser):
    """What a built page loads, links to and says."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads, self.links, self.ids, self.text = [], [], set(), ""
        self.source = path.read_text("utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids.add(found.get("id"))
        if tag == "a":
            self.links.append(found.get("href") or "")
        elif found.get("src"):
            self.loads.append(found["src"])
        elif tag == "link" and found.get("rel") not in ("next", "prev", "index", "search"):
            self.loads.append(found.get("href") or "")

    def handle_data(self, data):
        self.text += data


@pytest.mark.book
@pytest.mark.kernel
def test_a_built_page_is_whole_and_loads_nothing_from_afar(project):
    run(project)
    index, said = build()
    assert index == project / "_build" / "html" / "index.html" and index.is_file()
    left_out = [line for line in said if line.startswith("left out")]
    assert left_out == ["left out: 02_second, which chapters/ does not hold"]
    (path,) = (project / "_build" / "html" / "runs").rglob("01_first.html")
    page = Page(path)
    assert "Figure 1" in page.text
    front = Page(index)
    assert "It ran with 2 items." in front.text and "A trivial chapter" in front.text
    assert re.search(r"<td[^>]*><p>2</p></td>\s*<td[^>]*><p>a-model</p></td>", page.source)
    assert {"fig-one", "equation-eq-one", "start"} <= page.ids
    assert "<math" in page.source
    built_pages = [*(project / "_build" / "html").glob("*.html"), path]
    assert len(built_pages) >= 4
    for built in built_pages:
        for address in Page(built).loads:
            assert not re.match(r"(https?:)?//", address), f"{built.name} loads {address}"
            if not address.startswith("data:"):
                file = built.parent / re.sub(r"[?#].*", "", address)
                assert file.resolve().is_file(), f"{built.name} loads {address}"


@pytest.mark.book
@pytest.mark.kernel
def test_another_model_has_labels_of_its_own_and_no_entry(project):
    trivial.write_model(project / "b-model")
    run(project, "./a-model", "./b-model")
    build()
    html = project / "_build" / "html"
    first, second = sorted((html / "runs").rglob("01_first.html"))
    front = Page(html / "index.html")
    assert front.text.count("It ran with") == 1 and "b-model" not in front.text
    assert not any(second.parent.name in link for link in front.links)
    page = Page(second)
    assert "A trivial chapter on b-model" in page.text
    suffix = second.parent.name
    assert {f"fig-one-{suffix}", f"equation-eq-one-{suffix}"} <= page.ids
    assert f"#fig-one-{suffix}" in page.links and f"#start-{suffix}" in page.links
    assert "fig-one" in Page(first).ids


@pytest.mark.book
@pytest.mark.kernel
def test_hand_written_pages_lead_to_chapters_that_were_run_and_name_the_others(project):
    write_labelled_chapter(project)
    trivial.write_chapter(project, "02_second", text="# Second\n\n$$\na\n$$ (eq-two)")
    (first, _) = notebooks.find_chapters()
    outcomes = batch.run_jobs(batch.plan(["./a-model"], [first], {}), report=lambda line: None)
    assert [one.kind for one in outcomes] == ["done"]
    written = (
        "# Index\n\n{chapter}`here <01_first>` {fig}`fig-one` {chapter}`02_second` {fig}`eq-two`"
    )
    (project / "book" / "index.md").write_text(written)
    index, _ = build()
    front = Page(index)
    address = next(link for link in front.links if link.endswith("01_first.html"))
    assert address in front.links and f"{address}#fig-one" in front.links
    assert "second (not run here)" in front.text and "chapter 2 (not run here)" in front.text
    for role in ("{chapter}`03_third`", "{fig}`fig-none`"):
        (project / "book" / "index.md").write_text(f"# Index\n\n{role}")
        with pytest.raises(building.BookFailed, match=r"no chapter|has a figure"):
            build()


@pytest.mark.book
@pytest.mark.kernel
def test_nothing_changed_builds_nothing_and_old_pages_go(project):
    trivial.write_model(project / "b-model")
    run(project, "./a-model", "./b-model")
    build()
    html = project / "_build" / "html"
    before = {path: path.stat().st_mtime_ns for path in html.rglob("*")}
    _, said = build()
    assert said[-1].startswith("Nothing has changed")
    assert {path: path.stat().st_mtime_ns for path in html.rglob("*")} == before
    (page,) = html.glob("runs/b-model-*/01_first.html")
    shutil.rmtree(project / "book" / "runs" / page.parent.name)
    build()
    assert not page.exists() and len([*(html / "runs").rglob("01_first.html")]) == 1


@pytest.mark.book
@pytest.mark.kernel
def test_a_warning_fails_the_build_and_leaves_the_earlier_book(project):
    run(project)
    index, _ = build()
    before = index.read_bytes()
    (project / "book" / "index.md").write_text("# Index\n\n{numref}`no-such-figure`\n")
    for _ in range(2):  # the second time too, though Sphinx would have read the page already
        with pytest.raises(building.BookFailed, match="no-such-figure"):
            build()
    assert index.read_bytes() == before
    assert "no-such-figure" in (project / "_build" / "book.log").read_text()


def test_what_is_not_whole_and_current_is_left_out_with_a_reason(project, monkeypatch):
    toc = pages.read_yaml("_toc.yml")
    said: list[str] = []
    with pytest.raises(UserError, match="no chapter has a whole and current run on a-model-"):
        pages.collect_pages(toc, said.append)
    assert any("01_first" in line and "never run" in line for line in said)
    run(project)
    assert len(pages.collect_pages(toc, said.append)) == 1
    monkeypatch.setattr(pages.runs.results, "versions", lambda: {"torch": "another"})
    assert len(pages.collect_pages(toc, said.append)) == 1  # run elsewhere, from the same sources
    write_labelled_chapter(project, text=TEXT + "\nMore.")
    said.clear()
    with pytest.raises(UserError):
        pages.collect_pages(toc, said.append)
    assert any("stale (changed since: chapter" in line for line in said)


def test_the_table_of_contents_is_the_written_one_without_what_is_missing():
    def page(model, chapter):
        place = runs.Place(model=model, chapter=chapter)
        return pages.Page(place=place, model=model, is_reference=model == "mini")

    entries = [{"file": "runs/mini/01_a"}, {"file": "runs/mini/02_b"}]
    hand = {"caption": "Back", "chapters": [{"file": "references"}]}
    toc = {"root": "index", "parts": [{"caption": "Claims", "chapters": entries}, hand]}
    found = [page("mini", "02_b"), page("gpt2", "02_b")]
    assert pages.book_toc(toc, found)["parts"] == [
        {"caption": "Claims", "chapters": entries[1:]},
        hand,
    ]
    found += [page("gpt2", "01_a"), page("other", "01_a")]
    assert pages.book_toc(toc, found)["parts"] == [
        {"caption": "Claims", "chapters": [{"file": "runs/gpt2/01_a"}, entries[1]]},
        hand,
    ]
    only_hand = pages.book_toc({**toc, "parts": [{"chapters": entries[:1]}, hand]}, found[:2])
    assert only_hand["parts"] == [hand]
    assert pages.reference_model(toc) == "mini"
    with pytest.raises(UserError, match="it lists none"):
        pages.reference_model({"parts": [hand]})


def test_labels_and_their_references_are_renamed_and_nothing_else():
    text = """(sec-a)=
## A
$$ x $$ (eq-a)

```{figure} a.png
:name: fig-a
```

{eq}`eq-a`, {ref}`the section <sec-a>`, {numref}`Figure %s <fig-a>`, [](#fig-a), {ref}`elsewhere`,
[a link](https://example.org/fig-a), `fig-a`, fig-a, {cite:p}`fig-a`"""
    output = nbformat.v4.new_output("display_data", data={"text/markdown": "{eq}`eq-a`"})
    metadata = {"mystnb": {"figure": {"caption": "{eq}`eq-a`", "name": "fig-b"}}}
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell(text),
            nbformat.v4.new_code_cell("'(sec-a)='", metadata=metadata, outputs=[output]),
        ]
    )
    assert labels.own_labels(notebook) == {"sec-a", "eq-a", "fig-a", "fig-b"}
    labels.rename_labels(notebook, "-m")
    markdown, code = notebook.cells
    assert markdown.source == (
        text.replace("(sec-a)=", "(sec-a-m)=")
        .replace("$$ (eq-a)", "$$ (eq-a-m)")
        .replace(":name: fig-a", ":name: fig-a-m")
        .replace("{eq}`eq-a`", "{eq}`eq-a-m`")
        .replace("<sec-a>", "<sec-a-m>")
        .replace("<fig-a>", "<fig-a-m>")
        .replace("(#fig-a)", "(#fig-a-m)")
    )
    assert code.source == "'(sec-a)='"
    assert code.metadata.mystnb.figure == {"caption": "{eq}`eq-a-m`", "name": "fig-b-m"}
    assert code.outputs[0].data["text/markdown"] == "{eq}`eq-a-m`"


def test_the_repository_is_named_once_and_follows_the_workflow(monkeypatch):
    monkeypatch.setattr(paths, "ROOT", REPOSITORY)
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    written = pages.book_config()["repository"]["url"]
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.com")
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/fork")
    assert pages.book_config()["repository"]["url"] == "https://github.com/someone/fork"
    others = [p for p in (REPOSITORY / "book").glob("*.*") if written in p.read_text("utf-8")]
    assert others == []


def test_the_toc_of_the_project_lists_every_chapter(monkeypatch):
    monkeypatch.setattr(paths, "ROOT", REPOSITORY)
    toc = pages.read_yaml("_toc.yml")
    reference = pages.reference_model(toc)
    listed = [entry for entry in pages._files(toc) if entry.startswith("runs/")]
    chapters = notebooks.find_chapters(REPOSITORY / "chapters")
    folders = {True: runs.ALL, False: reference}
    assert listed == [f"runs/{folders[chapter.across]}/{chapter.name}" for chapter in chapters]


def test_text_printed_beside_a_figure_follows_it_and_takes_no_part_of_its_caption():
    data = nbformat.v4.new_output
    text = data("display_data", data={"text/markdown": "It rises.", "text/plain": "It rises."})
    image = data("display_data", data={"image/png": "aGk=", "text/plain": "<Figure>"})
    figure = {"mystnb": {"figure": {"name": "fig-rise", "caption": "A rise."}}}
    drawn = nbformat.v4.new_code_cell("draw()", metadata=figure, outputs=[text, image])
    plain = nbformat.v4.new_code_cell("say()", outputs=[text])
    notebook = nbformat.v4.new_notebook(cells=[drawn, plain])
    pages.set_text_apart(notebook)
    assert [cell.outputs for cell in notebook.cells] == [[image], [text], [text]]
    assert notebook.cells[1].metadata["tags"] == ["remove-input"]
    assert "mystnb" not in notebook.cells[1].metadata
    assert notebook.cells[1].source  # without any, the page would leave the cell out
    nbformat.validate(notebook)
