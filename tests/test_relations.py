"""Loading relations: what is accepted, what is refused and with which words, what a seed fixes."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovectors.colored_objects import colours, generate_questions, read_big_bench
from ovectors.errors import UserError
from ovectors.relations import RELATIONS, SAME_NAME, Item, capitalise, load_relation
from ovectors.tables import DATA, read_words

PASSAGE = re.compile(r"On the (\w+), there is (.+)\. What color is the (\w+)\?")


def refused(path: Path | str, name: str = "mine") -> str:
    """The one line that loading this file is refused with."""
    with pytest.raises(UserError) as caught:
        load_relation(name, path=path)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


@pytest.fixture
def write(tmp_path: Path):
    def write_file(content: str | bytes, name: str = "pairs.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


class TestLibraryRelations:
    @pytest.mark.parametrize("name", RELATIONS)
    def test_loads(self, name: str) -> None:
        relation = load_relation(name)
        assert relation.name == name and relation.title[0].isupper()
        assert len(relation.items) >= 50
        for item in relation.items:
            assert item.argument == item.argument.strip() and item.answer == item.answer.strip()
            assert (item.argument == item.answer) == (item.group == SAME_NAME)
            assert bool(item.context) == (name == "colored_objects")

    def test_facts_by_name(self) -> None:
        capitals = {item.argument: item for item in load_relation("world_capitals").items}
        assert capitals["Poland"] == Item(argument="Poland", answer="Warsaw", group="sovereign")
        assert capitals["United States"].answer == "Washington, D.C."
        assert capitals["Côte d'Ivoire"].answer == "Yamoussoukro"

    def test_unknown_name_lists_the_known_ones(self) -> None:
        with pytest.raises(UserError) as caught:
            load_relation("world_capital")
        assert all(name in str(caught.value) for name in ("'world_capital'", *RELATIONS))

    def test_items_are_immutable(self) -> None:
        with pytest.raises(AttributeError):
            load_relation("uppercase").items[0].answer = "x"


class TestUsersFile:
    def test_two_columns(self, write) -> None:
        relation = load_relation("mine", path=write("argument,answer\ncat,kitten\ndog,puppy\n"))
        assert relation.name == relation.title == "mine"
        assert relation.items == (
            Item(argument="cat", answer="kitten"),
            Item(argument="dog", answer="puppy"),
        )

    def test_path_as_text_and_replacing_a_library_relation(self, write) -> None:
        path = write("argument,answer,group\nPoland,Kraków,old\n")
        relation = load_relation("world_capitals", path=str(path))
        assert relation.title == "World capitals"
        assert relation.items == (Item(argument="Poland", answer="Kraków", group="old"),)

    def test_leniency(self, write) -> None:
        """Byte order mark, Windows lines, spaces, blank lines, other columns, no last newline."""
        content = '\ufeffnote,answer , argument\r\n\r\nyes, kitten ,  cat\r\n   \r\nno,a,"b, c"'
        items = load_relation("mine", path=write(content)).items
        assert items == (Item(argument="cat", answer="kitten"), Item(argument="b, c", answer="a"))

    def test_same_name_is_allowed_where_it_is_marked(self, write) -> None:
        path = write(f"argument,answer,group\nOz,Oz,{SAME_NAME}\n")
        assert load_relation("mine", path=path).items[0].group == SAME_NAME

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
    @given(
        st.dictionaries(
            st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1),
            st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1),
            min_size=1,
            max_size=8,
        )
    )
    def test_what_is_written_is_read(self, tmp_path: Path, facts: dict[str, str]) -> None:
        facts = {argument: answer for argument, answer in facts.items() if argument != answer}
        path = tmp_path / "any.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("argument", "answer"), *facts.items()])
        if facts:
            items = load_relation("mine", path=path).items
            assert {item.argument: item.answer for item in items} == facts
        else:
            assert f"{path}:1:" in refused(path)


class TestBrokenFiles:
    @pytest.mark.parametrize(
        ("content", "line", "words"),
        [
            ("", 1, "empty"),
            ("\n  \n", 1, "empty"),
            ("argument,answer\n", 1, "no line after the header"),
            ("France,Paris\nPoland,Warsaw\n", 1, "header must name the columns argument,answer"),
            ("\nargument,anwser\na,b\n", 2, "it says 'argument,anwser'"),
            ("argument,answer,answer\na,b,c\n", 1, "names a column twice"),
            ("argument,answer\na,b\nc\n", 3, "1 fields where the header names 2"),
            ("argument,answer\na,b\nWashington,D.C.,x\n", 3, "3 fields where the header names 2"),
            ("argument,answer\na,b\nc,\n", 3, "the field answer is empty"),
            ("argument,answer\na,b\n , d\n", 3, "the field argument is empty"),
            ("argument,answer,group\na,b,\n", 2, "the field group is empty"),
            ("argument,answer\na,b\n\nc,d\na,e\n", 5, "'a' is already on line 2"),
            ("argument,answer\na,b\nc,c\n", 3, "argument and answer are both 'c'"),
            (f"argument,answer,group\na,b,{SAME_NAME}\n", 2, "'a' and 'b' differ"),
            ('argument,answer\n"two\nlines",b\n', 2, "the field argument holds a line break"),
            ('argument,answer\n"x\ny",b\nc,c\n', 2, "line break"),
            ('argument,answer\na,b\n"c,d\n', 3, "not valid CSV"),
            ('argument,answer\n"a"b,c\n', 2, "not valid CSV"),
            (b"argument,answer\na,b\nM\xe1laga,c\n", 3, "not UTF-8"),
            (b"\xff\xfea\x00r\x00g\x00", 1, "not UTF-8"),
        ],
    )
    def test_refused_with_file_and_line(self, write, content, line: int, words: str) -> None:
        path = write(content)
        message = refused(path)
        assert message.startswith(f"{path}:{line}: ")
        assert words in message

    def test_lines_after_a_quoted_field_are_counted_right(self, write) -> None:
        """The line named is the file's, not the record's number."""
        path = write('argument,answer\n\n\n"a","b"\n\nc,c\n')
        assert refused(path).startswith(f"{path}:6: ")

    def test_no_such_file(self, tmp_path: Path) -> None:
        assert "no such file" in refused(tmp_path / "absent.csv")

    def test_folder(self, tmp_path: Path) -> None:
        assert "cannot be read" in refused(tmp_path)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_unreadable(self, write) -> None:
        path = write("argument,answer\na,b\n")
        path.chmod(0)
        assert "cannot be read" in refused(path)


class TestColouredObjects:
    def test_form_of_every_question(self) -> None:
        items = load_relation("colored_objects", seed=3).items
        objects = set(read_words("household.csv", kind="object"))
        surfaces = set(read_words("household.csv", kind="surface"))
        assert len({item.context for item in items}) == len(items) == 200
        for item in items:
            surface, listed, asked = PASSAGE.fullmatch(item.context).groups()
            painted = [part.split() for part in re.split(r", and | and |, ", listed)]
            thing_to_colour = {thing: colour for _, colour, thing in painted}
            assert 2 <= len(painted) <= 6
            assert surface in surfaces and set(thing_to_colour) <= objects
            assert len(thing_to_colour) == len(set(thing_to_colour.values())) == len(painted)
            assert set(thing_to_colour.values()) <= set(colours())
            assert all((article == "an") == (colour == "orange") for article, colour, _ in painted)
            assert thing_to_colour[asked] == item.argument
            assert item.answer == item.argument.capitalize() != item.argument

    def test_balanced(self) -> None:
        """No favourite colour, length or place that could pass for reasoning."""
        questions = generate_questions(seed=0)
        asked_colours = Counter(question.colour for question in questions)
        assert set(asked_colours) == set(colours()) and set(asked_colours.values()) == {10}
        sizes = Counter(len(re.findall(r"\ban? ", question.passage)) for question in questions)
        assert sizes == dict.fromkeys((2, 3, 4, 5, 6), 40)
        first = sum(
            f"there is {article} {question.colour} " in question.passage
            for question in questions
            for article in ("a", "an")
        )
        # Expected: 200 x mean(1/2, ..., 1/6) = 58, standard deviation about 6.2.
        assert 35 <= first <= 81

    def test_seed_decides(self) -> None:
        assert load_relation("colored_objects") == load_relation("colored_objects", seed=0)
        one, two = (load_relation("colored_objects", seed=seed).items for seed in (1, 2))
        assert len({i.context for i in one} & {i.context for i in two}) < 20

    def test_count(self) -> None:
        assert len(generate_questions(seed=0, count=7)) == 7


BIG_BENCH = {
    "name": "made_up",
    "examples": [
        {
            "input": "On the roof I see a plum kite and a lime drone. What color is the drone?",
            "target_scores": {"plum": 0, "lime": 1, "rust": 0},
        },
        {"input": " Q: Is the tent khaki?\nA: ", "target": "No"},
        {"input": "How many tents are there?", "target": ["2"]},
    ],
}


class TestBigBench:
    def test_reads_scores_and_targets(self, write) -> None:
        path = write(json.dumps(BIG_BENCH), "task.json")
        relation = load_relation("colored_objects", path=path)
        first, second, third = relation.items
        assert first == Item(
            argument="lime",
            answer="Lime",
            group="colour",
            context="On the roof I see a plum kite and a lime drone. What color is the drone?",
        )
        assert (second.argument, second.answer) == ("no", "No")
        assert second.context == "Is the tent khaki?"
        # A figure has no upper case: loaded, and left out when it is encoded.
        assert (third.argument, third.answer, third.group) == ("2", "2", SAME_NAME)

    def test_first_two_hundred(self, write) -> None:
        examples = [{"input": f"question {n}?", "target": "teal"} for n in range(250)]
        path = write(json.dumps({"examples": examples}), "task.json")
        questions = read_big_bench(path)
        assert [q.passage for q in questions] == [f"question {n}?" for n in range(200)]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("", ":1: not valid JSON"),
            ('{"examples": [\n{"input": "x"\n"target": "y"}]}', ":3: not valid JSON"),
            (b'{"a": "\xff"}', ":1: not UTF-8"),
            ("[]", "no list `examples`"),
            ('{"examples": {}}', "no list `examples`"),
            ('{"examples": []}', "no list `examples`"),
            ('{"examples": ["x"]}', "example 1: no text in `input`"),
            ('{"examples": [{"input": " "}]}', "example 1: no text in `input`"),
            ('{"examples": [{"input": "x", "target": "red"}, {"input": "y"}]}', "example 2: no an"),
            ('{"examples": [{"input": "x", "target": ["a", "b"]}]}', "example 1: no answer"),
            ('{"examples": [{"input": "x", "target_scores": {"a": "b"}}]}', "must hold numbers"),
            ('{"examples": [{"input": "x", "target_scores": {"a": 1, "b": 1}}]}', "2 best answers"),
            ("[" * 200_000, "task.json"),
        ],
    )
    def test_refused_with_file_and_place(self, write, content, words: str) -> None:
        path = write(content, "task.json")
        message = refused(path, name="colored_objects")
        assert message.startswith(str(path)) and words in message

    def test_no_such_file(self, tmp_path: Path) -> None:
        assert "no such file" in refused(tmp_path / "task.json", name="colored_objects")


def test_capitalise_touches_only_the_first_letter() -> None:
    assert [capitalise(w) for w in ("red", "sky blue", "iOS", "")] == ["Red", "Sky blue", "IOS", ""]


def test_seeds_do_not_depend_on_the_hash_seed() -> None:
    """Python shuffles the order of sets from run to run; what is drawn must not follow it."""
    code = (
        "from ovectors.relations import load_relation\n"
        "from ovectors.prompts import FORMS, build_prompts, k_shot\n"
        "objects = load_relation('colored_objects', seed=5)\n"
        "capitals = load_relation('world_capitals')\n"
        "print(objects.items[:20], k_shot(capitals, capitals.items[3], k=4, seed=5))\n"
        "for form in FORMS: print(build_prompts(capitals, form, n_items=20, seed=5))\n"
    )
    library = str(DATA.parents[1])
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": library},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1] and "Q: What is the capital of" in outputs[0]
