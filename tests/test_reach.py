"""What a table's key follows: no dependency is missed, and little else counts."""

from __future__ import annotations

import ast
import importlib
import json
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ovectors import keys, paths, reach

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


# The library itself ------------------------------------------------------------------------------

EXPERIMENTS = """
import cProfile, json, sys
from importlib import import_module
from pathlib import Path
import ovectors.models
from ovectors import paths

def module_of(file):
    path = Path(file)
    if not path.is_relative_to(paths.PACKAGE):
        return ""
    dotted = ".".join(path.relative_to(paths.PACKAGE.parent).with_suffix("").parts)
    return dotted.removesuffix(".__init__")

found = {}
for name, function, settings in json.loads(sys.argv[1]):
    experiment = getattr(import_module(name), function)
    profile = cProfile.Profile(builtins=False)
    profile.enable()
    experiment(ovectors.models.load_model("mini-2m", device="cpu"), **settings)
    profile.disable()
    codes = [one.code for one in profile.getstats() if not isinstance(one.code, str)]
    codes = [code for code in codes if code.co_flags & 1]  # functions, no bodies of classes
    calls = {(module_of(code.co_filename), code.co_qualname) for code in codes}
    found[f"{name}:{function}"] = sorted(call for call in calls if call[0])
json.dump(found, sys.stdout)
"""


def used_experiments() -> list[str]:
    """Every function of the library that `store.table` is given: found in chapters and library."""
    from ovectors import notebooks

    sources = [code for one in notebooks.find_chapters() for code in notebooks.code_of(one.path)]
    sources += [path.read_text("utf-8") for path in (paths.PACKAGE / "experiments").rglob("*.py")]
    named = set()
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call) or not isinstance(
                node.func, ast.Attribute | ast.Name
            ):
                continue
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("table", "run_each") and node.args:
                place = node.args[0] if called == "table" else node.args[1]
                named.add(ast.unparse(place).rpartition(".")[2])
    found = []
    for path in sorted((paths.PACKAGE / "experiments").rglob("*.py")):
        module = ".".join(path.relative_to(paths.PACKAGE.parent).with_suffix("").parts)
        for node in ast.parse(path.read_text("utf-8")).body:
            is_named = isinstance(node, ast.FunctionDef) and node.name in named
            if is_named and [one.arg for one in node.args.args[:1]] == ["model"]:
                found.append(f"{module}:{node.name}")
    return found


SETTINGS = {"n_items": 12, "seed": 0}


def settings_of(function: str) -> dict | None:
    """Small settings for an experiment that needs no more than a relation, or nothing."""
    module, _, name = function.partition(":")
    path = paths.PACKAGE.parent / (module.replace(".", "/") + ".py")
    tree = ast.parse(path.read_text("utf-8"))
    (node,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name)
    positional = [one.arg for one in node.args.args[1:]]
    required = positional[: len(positional) - len(node.args.defaults)]
    keyword = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    required += [one.arg for one, default in keyword if default is None]
    known = {"relation": "past_tense", "relations": ("past_tense",)}
    if not set(required) <= known.keys():
        return None
    taken = {one.arg for one in (*node.args.args, *node.args.kwonlyargs)}
    given = {k: v for k, v in SETTINGS.items() if k in taken}
    return {**{name: known[name] for name in required}, **given}


@pytest.mark.slow
def test_every_function_that_really_runs_is_reached():
    """Python itself tells which functions of the library run: none may be missing in the key."""
    wanted = [
        (*function.split(":"), settings)
        for function in used_experiments()
        if (settings := settings_of(function)) is not None
    ]
    assert len(wanted) >= 6
    result = subprocess.run(
        [sys.executable, "-c", EXPERIMENTS, json.dumps(wanted)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    sources = reach.sources_of(paths.PACKAGE)
    for function, calls in json.loads(result.stdout).items():
        found = keys.reached_by(function, sources)
        assert not found.everything, function
        ran = set()
        for module, name in calls:
            top = name.split(".")[0]
            defined = reach.take_apart_named(sources, module).defines
            if top in defined:  # not the module's own code, a lambda's or a comprehension's
                ran.add(f"{module.partition('.')[2]}.{top}")
        assert len(ran) > 30 and ran - found.hashes.keys() == set(), function


def edited(sources: reach.Sources, module: str, name: str) -> reach.Sources:
    """The sources with one definition's statements followed by another statement of its name."""
    changed = []
    for file, text in sources:
        inside = Path(file).with_suffix("").parts
        dotted = ".".join(inside[:-1] if inside[-1] == "__init__" else inside)
        if dotted == module:
            text += f"\n{name} = {name}\n"
        changed.append((file, text))
    return tuple(changed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_an_edit_of_a_definition_counts_where_it_is_reached_and_nowhere_else(seed):
    """In the real library, for definitions drawn at random."""
    draw = random.Random(seed)
    sources = reach.sources_of(paths.PACKAGE)
    function = draw.choice(used_experiments())
    found = keys.reached_by(function, sources)
    every = reach.reached_in(sources, (reach.UNKNOWN,)).hashes
    own = [name for name in every if not name.endswith(")") and "." in name]
    reached = draw.sample(sorted(found.hashes.keys() & set(own)), 6)
    unreached = draw.sample(sorted(set(own) - found.hashes.keys()), 6)
    for label in reached + unreached:
        module, _, name = label.rpartition(".")
        after = keys.reached_by(function, edited(sources, f"ovectors.{module}", name))
        assert (after.hashes != found.hashes) == (label in found.hashes), (function, label)


def test_what_judges_draws_and_tells_does_not_count():
    """The rules and the paper's numbers may be edited without measuring anything again."""
    sources = reach.sources_of(paths.PACKAGE)
    functions = used_experiments()
    assert len(functions) >= 10
    for function in functions:
        found = keys.reached_by(function, sources)
        defined = (label for label in found.hashes if not label.endswith("(import)"))
        modules = {label.rpartition(".")[0].split(".")[0] for label in defined}
        assert modules.isdisjoint({"figures", "prose", "claims", "pages", "cli", "batch"}), function
        assert {"models", "stream"} & modules and "published.toml" not in found.strings
