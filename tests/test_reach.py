"""What a table's key follows: no dependency is missed, and little else counts."""

from __future__ import annotations

import importlib
import sys
import textwrap
from pathlib import Path

import pytest

from ovectors import reach

# A package in which `one.main` can be changed from everywhere. Each edit replaces a text in a file;
# `main` is run before and after, by Python itself, to see whether its answer changes.
FILES = {
    "__init__.py": "",
    "one.py": '''
        """What main needs."""
        from __future__ import annotations
        import math as m
        from typing import TYPE_CHECKING
        import pkg.two as second
        import pkg.odd
        from pkg import three, shown, patch
        from pkg.shown import through as renamed
        from pkg.four import *
        from .three import LIST
        from .three import lazy
        if TYPE_CHECKING:
            from pkg.five import Handed

        LIMIT = 3
        TOTAL = []
        TOTAL += [LIMIT, 1]
        TABLE = {"a": 1}
        TABLE["b"] = 2

        def main(handed: Handed = None, extra=second.DEFAULT) -> float:
            """Said."""
            from pkg.six import local
            found = [helper(), second.used(), renamed(), starred(), local(), m.floor(2.5)]
            found += [*LIST, *TOTAL, *TABLE.values(), extra, Small().value, lazy(), three.deep.low]
            found += [pkg.odd.by_text("seven"), three.registered["late"](), patch.told()]
            return sum(found) + (handed.size if handed else 0)

        def helper():
            return Small().value * 2

        class Base:
            value = 1

        class Small(Base):
            @property
            def twice(self):
                return self.value * 2

        def other():
            return second.unused() + UNUSED

        UNUSED = 5
    ''',
    "two.py": """
        DEFAULT = 2
        LATER = 1

        def used():
            return 4 + below()

        def below():
            return LATER

        def unused():
            return 1
    """,
    "shown.py": "from pkg.two import used as through\nfrom pkg.two import unused",
    "three/__init__.py": """
        from pkg.three import deep
        LIST = [1]
        registered = {}

        def register(function):
            registered[function.__name__] = function
            return function

        def lazy():
            return 1

        def idle():
            return 1
    """,
    "three/deep.py": "low = 3\nhigh = 4",
    "four.py": "def starred():\n    return hidden()\n\ndef hidden():\n    return 6",
    "five.py": "class Handed:\n    size = 7\n\nclass NotHanded:\n    size = 1",
    "six.py": """
        from pkg.three import register

        def local():
            return 8

        @register
        def late():
            return 2
    """,
    "seven.py": "value = 9",
    "odd.py": """
        import importlib

        def by_text(name):
            return importlib.import_module("pkg." + name).value
    """,
    "patch.py": """
        import pkg.three

        def louder():
            return 10

        def told():
            return 0

        pkg.three.lazy = louder
    """,
    "apart.py": "def apart():\n    return 1",
}
# The same without what looks a name up by text, which may reach anything.
PLAIN = {**FILES, "one.py": FILES["one.py"].replace('pkg.odd.by_text("seven")', "9")}
PLAIN["one.py"] = PLAIN["one.py"].replace("import pkg.odd\n", "import sys\n")

EDITS = {
    "the function itself": ("one.py", "2.5", "3.5"),
    "what an import stands for": ("one.py", "m.floor(2.5)", "m.ceil(2.5)"),
    "an imported module": (
        "one.py",
        "import math as m",
        "import cmath as m; m.floor = int; m.x = 1",
    ),
    "a helper": ("one.py", "value * 2\n\n        class", "value * 3\n\n        class"),
    "a constant by way of another": ("one.py", "LIMIT = 3", "LIMIT = 4"),
    "a list that grows": ("one.py", "TOTAL += [LIMIT, 1]", "TOTAL += [LIMIT, 2]"),
    "an entry that is set": ("one.py", 'TABLE["b"] = 2', 'TABLE["b"] = 3'),
    "a base class": ("one.py", "value = 1", "value = 2"),
    "a default argument": ("two.py", "DEFAULT = 2", "DEFAULT = 3"),
    "a function of another module": ("two.py", "4 + below()", "5 + below()"),
    "what that one calls": ("two.py", "LATER = 1", "LATER = 2"),
    "which one is passed on": ("shown.py", "import used as", "import unused as"),
    "a name taken with a star": ("four.py", "return hidden()", "return 1"),
    "below a star": ("four.py", "return 6", "return 7"),
    "a relative import": ("three/__init__.py", "LIST = [1]", "LIST = [2]"),
    "an import inside a function": ("six.py", "return 8", "return 9"),
    "a module below a package": ("three/deep.py", "low = 3", "low = 4"),
    "what is found by text": ("seven.py", "value = 9", "value = 10"),
    "what is put on a list": ("six.py", "return 2", "return 3"),
    "how things are put there": ("three/__init__.py", "= function\n", "= lambda: 50\n"),
    "what is put in another's place": ("patch.py", "return 10", "return 11"),
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / "pkg" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "pkg" / name).write_text(textwrap.dedent(text).lstrip() + "\n")
    return folder / "pkg"


def hashes(package: Path, root: str = "main", module: str = "pkg.one") -> dict[str, str]:
    return reach.reached_in(reach.sources_of(package), ((module, root),)).hashes


def answer(package: Path) -> float:
    """What `main` gives, from a fresh import of the package."""
    forget = [name for name in sys.modules if name.split(".")[0] == "pkg"]
    for name in forget:
        del sys.modules[name]
    sys.path.insert(0, str(package.parent))
    importlib.invalidate_caches()
    try:
        handed = importlib.import_module("pkg.five").Handed()
        return float(importlib.import_module("pkg.one").main(handed))
    finally:
        sys.path.remove(str(package.parent))


@pytest.fixture(scope="module")
def first_answer(tmp_path_factory) -> float:
    return answer(write(tmp_path_factory.mktemp("before"), FILES))


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_that_changes_the_answer_changes_what_is_reached(edit, tmp_path, first_answer):
    files = FILES if edit == "what is found by text" else PLAIN
    package = write(tmp_path, files)
    before = hashes(package)
    file, old, new = EDITS[edit]
    text = files[file]
    assert text.count(old) == 1, "the edit must be one"
    write(tmp_path, {file: text.replace(old, new)})
    assert edit == "an imported module" or answer(package) != first_answer
    assert hashes(package) != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("one.py", "UNUSED = 5", "UNUSED = 6"),
        ("one.py", "second.unused() + UNUSED", "UNUSED"),
        ("one.py", '"""Said."""', '"""Said otherwise."""'),
        ("one.py", "        LIMIT = 3", "        # as many as there are\n        LIMIT = 3"),
        ("two.py", "return 1", "return 2"),
        ("three/deep.py", "high = 4", "high = 5"),
        ("five.py", "size = 1", "size = 2"),
        ("apart.py", "return 1", "return 2"),
    ],
)
def test_what_is_not_reached_does_not_count(file, old, new, tmp_path, first_answer):
    package = write(tmp_path, PLAIN)
    before = hashes(package)
    assert answer(package) == first_answer
    assert old in PLAIN[file]
    write(tmp_path, {file: PLAIN[file].replace(old, new)})
    assert answer(package) == first_answer and hashes(package) == before


@pytest.mark.parametrize(
    "used",
    [
        "getattr(second, 'unused')()",
        "second.no_such_thing",
        "vars(second)",
        "eval('second.unused()')",
        "globals()['other']()",
        "__import__('pkg.two')",
        "sys.modules['pkg.two']",
        "Base.__subclasses__()",
    ],
)
def test_where_the_source_does_not_tell_everything_counts_that_it_could_be(used, tmp_path):
    text = PLAIN["one.py"].replace("return Small().value * 2", f"return {used}")
    package = write(tmp_path, {**PLAIN, "one.py": text})
    assert "two.unused" in hashes(package, "helper")


def test_a_root_that_is_not_there_reaches_everything(tmp_path):
    found = hashes(write(tmp_path, FILES), "no_such_function")
    assert {"apart.apart", "one.main", "five.NotHanded"} <= found.keys()
    assert found == hashes(write(tmp_path, FILES), "main", "elsewhere")


def test_a_file_that_is_no_python_counts_as_text(tmp_path):
    package = write(tmp_path, {**FILES, "two.py": "def broken(:"})
    before = hashes(package)
    write(tmp_path, {"two.py": "def broken(::"})
    assert hashes(package) != before
