"""The code blocks of the book's hand-written pages, run as a reader would run them."""

import contextlib
import io
import re
import tomllib

import pytest

from ovectors import paths
from ovectors.relations import Description, Item

PAGE = paths.ROOT / "book" / "add_your_own_relation.md"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What every Python block of the page prints, run one after another beside the CSV file."""
    folder = tmp_path_factory.mktemp("reader")
    (pairs,) = blocks("text")
    (folder / "shouted.csv").write_text(pairs, encoding="utf-8")
    printed, names = [], {}
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.delenv("OVECTORS_STORE", raising=False)
        for block in blocks("python"):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(block, str(PAGE), "exec"), names)
            printed.append(out.getvalue())
    return folder, printed, names


def test_the_prompt_is_one_demonstration_and_the_question(ran):
    _, printed, names = ran
    assert printed[0].startswith("Q: apple\nA: APPLE\nQ: mountain\nA:")
    assert f"{len(names['encoded'])} prompts" in printed[0]


def test_the_tables_are_about_the_readers_pairs(ran):
    folder, printed, names = ran
    overview, gains = names["overview"], names["gains"]
    assert overview["relation"].tolist() == ["shouted"] and len(names["relation"].items) == 30
    assert overview["n"].iloc[0] == len(names["encoded"])
    answered = overview["accuracy"].iloc[0] > 0.1
    assert len(gains) == (5 if answered else 0)
    assert "accuracy" in printed[1]
    assert (folder / "results" / "mini-2m" / "store").is_dir()


def test_the_verdict_is_said(ran):
    folder, printed, names = ran
    assert printed[2].startswith("shouted: ")
    assert names["claim"].verdict in printed[3] and names["claim"].verdict != "supported"
    assert (folder / "shouted.png").stat().st_size > 1000


def test_the_entry_for_the_book_has_the_fields_that_are_read():
    (entry,) = blocks("toml")
    (table,) = tomllib.loads(entry).values()
    pairs = tuple(Item(argument=a, answer=b) for a, b in table.pop("demonstrations"))
    assert Description(**table, demonstrations=pairs).kind == "word"
    assert all(pair.answer == pair.argument.upper() for pair in pairs)
