"""What of a module counts as its code: everything but comments and docstrings."""

from __future__ import annotations

import io
import tokenize
from pathlib import Path

import pytest

from ovectors import notebooks, paths, reach
from ovectors.definitions import without_words

MODULES = sorted(paths.PACKAGE.rglob("*.py"))
PLAIN = """LIMIT = 3


def told(name):
    said = '''# one

    two'''
    return said + name
"""


def code_tokens(source: str) -> list[str]:
    """What Python reads, by its tokenizer: no comments, no strings that stand alone."""
    layout = {tokenize.INDENT, tokenize.DEDENT, tokenize.NEWLINE}
    found = [
        one
        for one in tokenize.generate_tokens(io.StringIO(source).readline)
        if one.type not in {tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER}
    ]
    lines, line = [], []
    for one in found:
        if one.type in layout:
            lines.append(line)
            line = []
        else:
            line.append(one)
    code = (line for line in lines if [one.type for one in line] != [tokenize.STRING])
    return [one.string for line in code for one in line]


def named(path: Path) -> str:
    return path.relative_to(paths.PACKAGE).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_all_of_the_code_is_left_and_nothing_else(path):
    source = path.read_text("utf-8")
    bare = without_words(source)
    assert code_tokens(bare) == code_tokens(source) and len(bare) < len(source)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3\n", 'LIMIT = 3\n"""Letters."""\n'),
        ("LIMIT = 3\n", "# letters\nLIMIT = 3  # at most\n"),
        ("    said =", '    """Says it.\n\n    Twice: # no comment.\n    """\n    said ='),
        ("    said =", '    "é"  # both\n    # and more\n    said ='),
    ],
)
def test_words_do_not_count(old, new):
    assert without_words(PLAIN.replace(old, new)) == PLAIN


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# one", "# other"),
        ("\n\n    two", "\n    two"),
        ("LIMIT = 3", 'LIMIT = 3; "words"'),
        ("LIMIT = 3", '"words"; LIMIT = 3'),
        ("return said", 'return f"{said}"'),
        ("def told(name):\n", 'def short(): "words"\ndef told(name):\n'),
    ],
)
def test_everything_else_counts(old, new):
    altered = PLAIN.replace(old, new)
    assert altered != PLAIN and without_words(altered) == altered


@pytest.mark.parametrize("source", ["this is no python", '"""no end\n', "x = (\n", ""])
def test_what_is_no_python_counts_whole(source):
    assert without_words(source) == source


def test_nothing_that_makes_a_page_shows_docstrings():
    """Keys of runs leave them out; if this fails, have them count where they are shown."""
    told = {one: without_words(one.read_text("utf-8")) for one in MODULES if one.stem != "reach"}
    told |= {one.path: "\n".join(notebooks.code_of(one.path)) for one in notebooks.find_chapters()}
    shows = reach.READS_DOCSTRINGS
    shown = {path.name for path, text in told.items() if any(name in text for name in shows)}
    assert told and shown == set()
