"""What the keys of the library's own tables follow: all that really runs, and no judging."""

from __future__ import annotations

import ast
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from ovectors import keys, paths, reach

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
