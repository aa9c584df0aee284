"""Words of the glossary are found under their own names."""

import json
from types import SimpleNamespace

from ovectors import sphinx_search as search

INDEX = {
    "alltitles": {"Glossary": [[5, None]], "rank": [[3, "rank"]]},
    "indexentries": {
        "rank": [[5, "term-rank", True]],
        "o vector": [[5, "term-o-vector", True]],
        "module": [[7, "module-x", False]],
    },
    "titles": ["Glossary"],
}


def test_words_become_headings_of_their_page_and_other_entries_stay():
    made = search.as_headings(INDEX)
    assert made["alltitles"] == {
        "Glossary": [[5, None]],
        "rank": [[3, "rank"], [5, "term-rank"]],
        "o vector": [[5, "term-o-vector"]],
    }
    assert made["indexentries"] == {"module": [[7, "module-x", False]]}
    assert made["titles"] == INDEX["titles"]
    assert search.as_headings(made) == made


def test_the_file_of_a_built_book_is_changed_in_place(tmp_path):
    file = tmp_path / search.INDEX
    file.write_text(f"Search.setIndex({json.dumps(INDEX)})", "utf-8")
    app = SimpleNamespace(outdir=tmp_path, builder=SimpleNamespace(format="html"))
    search.name_words(app, ValueError("the build failed"))
    assert json.dumps(INDEX) in file.read_text("utf-8")
    search.name_words(app, None)
    text = file.read_text("utf-8")
    assert text.startswith("Search.setIndex(") and text.endswith(")")
    assert json.loads(text[16:-1]) == search.as_headings(INDEX)
