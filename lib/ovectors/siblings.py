"""The pages of one chapter on several models: how a reader gets from one to the others.

The table of contents lists each chapter once. The pages of the same chapter on other models are
built beside it: they have the sidebar, the neighbours and the figure numbers of the listed page, so
that for a reader the chapter stays where it is and the model changes. `book/_static/switch.js`
changes it; without JavaScript, and in print, a line names the model and links to the others.

A Sphinx extension, which `sphinx_extension` loads.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from docutils import nodes
from sphinx.environment.adapters.toctree import TocTree

from ovectors import runs
from ovectors.catalogue import by_size

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config
    from sphinx.environment import BuildEnvironment

    from ovectors.pages import Page

SETTING = "ovectors_chapters"
_FIRST = 400  # the order in which a page loads its scripts: before those that are named nowhere


def by_chapter(pages: Iterable[Page]) -> dict[str, dict[str, str]]:
    """For each chapter the document of every model that has it, by the listed page's document.

    The first of a chapter's pages is the listed one. Models have the name they are shown by; where
    two share one, the name of their folder.
    """
    pages = [page for page in pages if page.place.model != runs.ALL]
    folders: dict[str, set[str]] = {}
    for page in pages:
        folders.setdefault(page.model, set()).add(page.place.model)
    chapters: dict[str, dict[str, str]] = {}
    for page in pages:
        name = page.model if len(folders[page.model]) == 1 else page.place.model
        chapters.setdefault(page.place.chapter, {})[name] = page.document
    return {next(iter(models.values())): models for models in chapters.values()}


def label_suffix(folder: str) -> str:
    """What the labels on the pages of a model's folder end on, other than the reference model's."""
    return f"-{folder.lower()}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx. `ovectors_chapters`: what `by_chapter` returns."""
    app.add_config_value(SETTING, {}, "env")
    app.connect("config-inited", build_unlisted, priority=950)  # after the table of contents
    app.connect("env-updated", expect_unlisted)
    app.connect("env-get-updated", number_alike, priority=900)  # after the listed pages' numbers
    app.connect("html-page-context", follow_listed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _listed_pages(chapters: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The listed page's document, by that of every page of its chapter."""
    return {one: listed for listed, models in chapters.items() for one in models.values()}


def build_unlisted(app: Sphinx, config: Config) -> None:
    """Have the pages built that the table of contents does not list."""
    ours = {f"{document}.ipynb" for document in _listed_pages(config[SETTING])}
    config["exclude_patterns"] = [one for one in config["exclude_patterns"] if one not in ours]


def _unlisted_pages(app: Sphinx) -> dict[str, str]:
    """The listed page's document, by that of every page that the table of contents lacks."""
    pages = _listed_pages(app.config[SETTING])
    return {document: listed for document, listed in pages.items() if document != listed}


def expect_unlisted(app: Sphinx, env: BuildEnvironment) -> None:
    """Keep Sphinx from warning of pages that no table of contents lists."""
    for document in _unlisted_pages(app):
        env.metadata[document]["orphan"] = ""


def number_alike(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Give figures and equations of unlisted pages the numbers of their namesakes; returns the
    pages whose numbers are new.

    What the listed page lacks is counted on from its last number.
    """
    for document, listed in _unlisted_pages(app).items():
        numbers: dict[str, dict[str, tuple[int, ...]]] = {}
        suffix = _suffix(document)
        for kind, name in _numbered(env, document):
            known = env.toc_fignumbers.get(listed, {}).get(kind, {})
            ours = numbers.setdefault(kind, {})
            last = max([*known.values(), *ours.values()], default=(0,))
            counted_on = (*last[:-1], last[-1] + 1)
            ours[name] = known.get(name.removesuffix(suffix), counted_on)
        env.toc_fignumbers[document] = numbers
    return [*_unlisted_pages(app)]


def _numbered(env: BuildEnvironment, document: str) -> Iterator[tuple[str, str]]:
    """Kind and id of all that has a number on a page, in its order, as Sphinx itself chooses."""
    for node in env.get_doctree(document).findall(nodes.Element):
        for domain in env.domains.values():
            kind = domain.get_enumerable_node_type(node)
            titled = domain.name != "std" or domain.get_numfig_title(node)
            if kind and titled and node["ids"] and kind != "section":
                yield kind, node["ids"][0]
                break


def follow_listed(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Give a chapter's page the sidebar and the neighbours of the listed one, and the switch."""
    chapters = app.config[SETTING]
    listed = _listed_pages(chapters).get(page)
    if listed is None:
        return
    shown = next(name for name, document in chapters[listed].items() if document == page)
    same_model = {one: known[shown] for one, known in chapters.items() if shown in known}
    context["toctree"] = lambda **given: _sidebar(app, page, listed, same_model, **given)
    _, *neighbours = app.builder.relations[listed]
    for name, document in zip(("prev", "next"), neighbours, strict=True):
        target = same_model.get(document, document)
        context[name] = target and {
            "link": app.builder.get_relative_uri(page, target),
            "title": app.builder.render_partial(app.env.titles[target])["title"],
        }
    told = _told(app, page, shown, chapters, listed)
    script = json.dumps(told, ensure_ascii=False).replace("<", "\\u003c")
    app.add_js_file(None, body=f"window.ovectorsChapter = {script};", priority=_FIRST)
    line = _model_line(shown, told["pages"])
    context["body"] = context["body"].replace("</h1>", f"</h1>\n{line}", 1)


def _sidebar(
    app: Sphinx, page: str, listed: str, same_model: Mapping[str, str], **given: Any
) -> str:
    """The sidebar of the listed page, its links leading on from `page` and staying on its model."""
    collapse = given.pop("collapse", True)
    toctree = TocTree(app.env).get_toctree_for(listed, app.builder, collapse, **given)
    documents = {app.builder.get_target_uri(document): document for document in app.env.all_docs}
    for link in toctree.findall(nodes.reference):
        uri = posixpath.normpath(posixpath.join(posixpath.dirname(listed), link["refuri"]))
        if link["refuri"] and uri in documents:
            target = same_model.get(documents[uri], documents[uri])
            link["refuri"] = app.builder.get_relative_uri(page, target)
    return app.builder.render_partial(toctree)["fragment"]


def _told(
    app: Sphinx,
    page: str,
    shown: str,
    chapters: Mapping[str, Mapping[str, str]],
    listed: str,
) -> dict[str, Any]:
    """What the switch is told of a page: the models of the book, the pages of this chapter, and
    what labels end on, on all of these pages (the longest first) and on this one."""
    here = chapters[listed]
    return {
        "shown": shown,
        "listed": page == listed,
        "models": by_size(name for models in chapters.values() for name in models),
        "pages": {name: app.builder.get_relative_uri(page, one) for name, one in here.items()},
        "suffixes": sorted(map(_suffix, here.values()), key=len, reverse=True),
        "suffix": _suffix(page),
    }


def _suffix(document: str) -> str:
    return label_suffix(posixpath.basename(posixpath.dirname(document)))


def _model_line(shown: str, pages: Mapping[str, str]) -> str:
    """What names the model where the switch does not: in print, and without JavaScript."""
    others = [
        f'<a href="{quote(address)}?model={quote(name, safe="")}">{escape(name)}</a>'
        for name, address in ((name, pages[name]) for name in by_size(pages))
        if name != shown
    ]
    also = f" <span>The same chapter on {', '.join(others)}.</span>" if others else ""
    return f'<p class="ov-model">Model: <strong>{escape(shown)}</strong>.{also}</p>'
