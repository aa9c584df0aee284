"""A chapter's page leads to its own notebook, in the repository that the settings name."""

from __future__ import annotations

from types import SimpleNamespace

import nbformat
import pytest
import yaml

import trivial
from ovectors import chapter_tools, pages, paths, results, runs, sphinx_buttons

PLACE = runs.Place(model="a-model", chapter="01_first")
PAGE = pages.Page(place=PLACE, model="a-model", is_reference=True)
GITHUB = {"repository": {"url": "https://github.com/someone/a-fork", "branch": "trunk"}}


def pressed(config, page=PAGE.document) -> dict[str, list[str]]:
    """What the buttons of a page lead to, once the theme has made its own from the settings."""
    made = chapter_tools.settings(config, [PAGE])
    url, branch = config["repository"]["url"], config["repository"]["branch"]
    owner = url.split("://")[1].split("/", 1)[1]
    launch = [
        {"url": f"https://binder.example/v2/gh/{owner}/{branch}?urlpath=lab/tree/{page}.ipynb"},
        {"url": f"https://colab.example/github/{owner}/blob/{branch}/{page}.ipynb"},
    ]
    source, pdf = "download-source-button", "download-pdf-button"
    download = [{"label": source, "url": f"_sources/{page}.ipynb"}, {"label": pdf, "url": "print"}]
    context = {
        "pathto": lambda path, _: f"../../{path}",
        "header_buttons": [
            {"label": "launch-buttons", "buttons": launch},
            {"label": "download-buttons", "buttons": download},
        ],
    }
    app = SimpleNamespace(config=SimpleNamespace(**made["sphinx"]["config"]))
    sphinx_buttons.lead_to_chapters(app, page, "page.html", context, None)
    return {
        group["label"]: [one["url"] for one in group["buttons"]]
        for group in context["header_buttons"]
    }


def test_buttons_lead_to_the_chapter_in_the_named_repository():
    urls = pressed(GITHUB)
    assert urls["launch-buttons"] == [
        "https://binder.example/v2/gh/someone/a-fork/trunk?urlpath=lab/tree/chapters/01_first.ipynb",
        "https://colab.example/github/someone/a-fork/blob/trunk/chapters/01_first.ipynb",
    ]
    assert urls["download-buttons"] == [
        "../../chapters/01_first.ipynb",
        "../../runs/a-model/01_first.ipynb",
        "print",
    ]


def test_a_page_that_is_no_chapter_can_only_be_printed():
    assert pressed(GITHUB, "methods")["download-buttons"] == ["print"]


@pytest.mark.parametrize(
    ("url", "opens"),
    [("https://github.com/a/b", True), ("https://gitlab.com/a/b", False)],
)
def test_colab_is_offered_for_github_alone(url, opens):
    config = {"repository": {"url": url, "branch": "main"}, "launch_buttons": {"colab_url": "c"}}
    assert ("colab_url" in chapter_tools.settings(config, [])["launch_buttons"]) == opens
    assert (f"git clone --quiet --depth 1 --branch main {url}" in told(config)) == opens


def told(config) -> str:
    return chapter_tools.how_to_run("ovectors run --chapter 1", config)


def test_the_repository_of_a_workflow_takes_the_place_of_the_named_one(monkeypatch):
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.com")
    monkeypatch.setenv("GITHUB_REPOSITORY", "another/owner")
    assert "https://github.com/another/owner study" in told(pages.book_config())
    launch = chapter_tools.settings(pages.book_config(), [])["launch_buttons"]
    assert launch["binderhub_url"] and launch["colab_url"]


def test_a_page_says_how_to_run_it_and_has_both_notebooks_beside_it(tmp_path, monkeypatch):
    trivial.enter(trivial.make_project(tmp_path / "project"), monkeypatch)
    run = results.ChapterRun(
        chapter="01_first", model="./a-model", parameters={}, folder=PLACE.results
    )
    run.save_json("numbers", {})
    run.finish()
    PLACE.notebook.write_text("as it was executed")
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("(top)=\n# The title\n\nThe text.")]
    )
    chapter_tools.add(notebook, PAGE, GITHUB, tmp_path / "root")
    text = notebook.cells[0].source
    assert text.startswith("(top)=\n# The title\n\n:::{dropdown} Run this chapter yourself")
    assert "\novectors run --model ./a-model --chapter 1\n" in text
    assert text.endswith(":::\n\n\nThe text.")
    executed = tmp_path / "root" / "runs" / "a-model" / "01_first.ipynb"
    assert executed.read_text() == "as it was executed"
    source = tmp_path / "root" / "chapters" / "01_first.ipynb"
    assert source.read_bytes() == (paths.CHAPTERS / "01_first.ipynb").read_bytes()


def test_binder_finds_an_environment_that_installs_the_project():
    """Binder reads `environment.yml` at the root, unless a folder of its own hides it."""
    root = paths.ROOT
    assert not any((root / name).exists() for name in ("binder", ".binder", "Dockerfile"))
    wanted = yaml.safe_load((root / "environment.yml").read_text())["dependencies"]
    (pip,) = (one["pip"] for one in wanted if isinstance(one, dict))
    assert pip == ["-r requirements.lock", "-e ."] and "pip" in wanted
    assert any(str(one).startswith("python=3.1") for one in wanted)
