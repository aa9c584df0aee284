"""Making a fork: all of its files, or none of them.

chapters/NN_my_study.ipynb        the source's cells (`cells`)
chapters/NN_my_study/rules.toml   its rules (`rules`)
chapters/NN_my_study/*.csv        a reader's pairs, and what a forked study had of its own
tests/test_my_study.py            a test that runs it
_toc.yml                          one line more
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

import nbformat
import yaml

from ovectors import paths, studies
from ovectors.errors import UserError
from ovectors.forking.cells import notebook_of
from ovectors.forking.rules import rules_text
from ovectors.forking.study import Study, plan
from ovectors.pages import read_yaml, reference_model
from ovectors.relations import load_relation
from ovectors.results import atomic_path
from ovectors.tables import read_text

TOC = "_toc.yml"
_LISTED = re.compile(r"(\s*- file: )runs/\S+\s*")
_TEST = '''\
"""The study {slug} runs to its end; a model that has learned nothing supports nothing."""

import pytest

from ovectors import studies
from trial_run import claims_of

CHAPTER = "{chapter}"


@pytest.mark.kernel
def test_it_ends_in_verdicts_by_its_own_rules(untrained_folder, tmp_path):
    rules = studies.rules_of(CHAPTER)
    found = claims_of(CHAPTER, model=untrained_folder, folder=tmp_path)
    assert found.keys() == rules.keys()
    for name, claim in found.items():
        assert (claim.question, claim.rule) == (rules[name].question, rules[name].sentence)
        assert claim.verdict in ("not supported", "not testable here")
'''


def fork(
    name: str, source: str, *, title: str = "", pairs: Path | None = None
) -> tuple[Study, list[Path]]:
    """Make the chapter `name` from the chapter `source`, a number or a name.

    With `pairs`, a CSV file is copied beside it and takes the place of the relations that the
    source measures. Returns the study and its files, the changed `_toc.yml` last. Errors:
    UserError, with nothing written, for a name of another form or one that is taken, a source that
    is not there or cannot be forked, and pairs that cannot be read.
    """
    study = plan(name, source, title=title, pairs=pairs)
    new = {study.notebook: nbformat.writes(notebook_of(study)) + "\n"}
    new[study.folder / studies.RULES_FILE] = rules_text(study)
    for path in study.source.own_files:
        if path.name != studies.RULES_FILE:
            new[study.folder / path.name] = read_text(path)
    if pairs is not None:
        load_relation(pairs.stem, path=pairs)
        new[study.folder / pairs.name] = read_text(pairs)
    new[study.test] = _TEST.format(slug=study.slug, chapter=study.chapter)
    toc = {paths.ROOT / TOC: _toc_text(study)}
    _write(new, toc)
    return study, [*new, *toc]


def _toc_text(study: Study) -> str:
    """`_toc.yml` as it is, with a line for the study after the last chapter that it lists."""
    before = read_yaml(TOC)
    entry = f"runs/{reference_model(before)}/{study.chapter}"
    lines = (paths.ROOT / TOC).read_text("utf-8").splitlines()
    last = max((at for at, line in enumerate(lines) if _LISTED.fullmatch(line)), default=-1)
    if last >= 0:
        lines.insert(last + 1, _LISTED.fullmatch(lines[last])[1] + entry)
    text = "\n".join(lines) + "\n"
    with contextlib.suppress(yaml.YAMLError, KeyError, TypeError):
        if sorted(_entries(yaml.safe_load(text))) == sorted([*_entries(before), entry]):
            return text
    raise UserError(
        f"no line can be added to {TOC}: chapters have to stand in it as `- file: runs/...`, a "
        "line each"
    )


def _entries(toc: Mapping) -> list[str]:
    return [entry["file"] for part in toc["parts"] for entry in part["chapters"]]


def _write(new: Mapping[Path, str], changed: Mapping[Path, str]) -> None:
    """Write the new files and then the changed ones, or leave everything as it was."""
    made: list[Path] = []
    try:
        for path, text in {**new, **changed}.items():
            if not path.parent.exists():
                path.parent.mkdir()
                made.append(path.parent)
            with atomic_path(path) as temporary:
                temporary.write_text(text, "utf-8")
            if path in new:
                made.append(path)
    except BaseException:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        raise
