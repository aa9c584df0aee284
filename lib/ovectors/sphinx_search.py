"""Words of the glossary in the search, under their own names.

Sphinx lists each word that it finds in an index by the title of the page: a search then shows
"Glossary" several times. Headings it lists by page and heading, so the words are filed as headings.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

INDEX = "searchindex.js"
_BEFORE, _AFTER = "Search.setIndex(", ")"
_TERM = "term-"  # what Sphinx begins the anchors of glossary words with


def name_words(app: Sphinx, failed: Exception | None) -> None:
    """Change the index of the built book in place."""
    file = Path(app.outdir) / INDEX
    if failed or app.builder.format != "html" or not file.is_file():
        return
    text = file.read_text("utf-8").removeprefix(_BEFORE).removesuffix(_AFTER)
    index = json.dumps(as_headings(json.loads(text)), ensure_ascii=False, sort_keys=True)
    file.write_text(f"{_BEFORE}{index}{_AFTER}", "utf-8")


def as_headings(index: dict[str, Any]) -> dict[str, Any]:
    """A search index whose glossary words are headings of their page; the rest is as it was."""
    headings = {title: [*places] for title, places in index["alltitles"].items()}
    entries: dict[str, list[Any]] = {}
    for word, places in index["indexentries"].items():
        for place in places:
            page, anchor, *_ = place
            if not anchor.startswith(_TERM):
                entries.setdefault(word, []).append(place)
            elif [page, anchor] not in headings.setdefault(word, []):
                headings[word].append([page, anchor])
    return {**index, "alltitles": headings, "indexentries": entries}
