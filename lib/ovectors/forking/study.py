"""What a fork is to be: its name, number and source, and whether anything is in its way."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ovectors import claims, paths, studies
from ovectors.errors import UserError
from ovectors.notebooks import Chapter, choose_chapters, find_chapters
from ovectors.studies import OwnRule

LONGEST_NAME = 40
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
_PAIRS_NAME = re.compile(r"[A-Za-z0-9_-]+\.csv")


@dataclass(frozen=True, kw_only=True)
class Study:
    """A chapter to be made.

    Attributes:
        slug: its name with underscores, which is the id of its first rule too.
        number: its place in the book.
        title: its heading.
        source: the chapter that it starts from.
        pairs: a CSV file of pairs to measure in place of the source's relations, if any.
    """

    slug: str
    number: int
    title: str
    source: Chapter
    pairs: Path | None = None

    @property
    def chapter(self) -> str:
        """`08_my_study`."""
        return f"{self.number:02d}_{self.slug}"

    @property
    def notebook(self) -> Path:
        """The file of its notebook."""
        return paths.CHAPTERS / f"{self.chapter}.ipynb"

    @property
    def folder(self) -> Path:
        """The folder of its rules and pairs."""
        return studies.folder(self.chapter)

    @property
    def test(self) -> Path:
        """The file of its test."""
        return paths.ROOT / "tests" / f"test_{self.slug}.py"

    @property
    def source_rules(self) -> dict[str, OwnRule]:
        """The rules that it takes over, by their ids in the source.

        A rule of the library judges the claim of its own name. UserError where there is none.
        """
        found = studies.read_rules(self.source.name) or {
            rule.id: OwnRule(
                judges=rule.id,
                question=rule.question,
                sentence=rule.sentence,
                needed=rule.needed,
                share=rule.share,
            )
            for rule in claims.RULES.values()
            if rule.chapter == self.source.name
        }
        if not found:
            raise UserError(
                f"chapter {self.source.number} saves no claim, so there is nothing that a study "
                "could judge by a rule of its own: fork another one"
            )
        return found

    @property
    def ids(self) -> dict[str, str]:
        """The ids of its rules by those of the source: its name, then its name in front."""
        first, *others = self.source_rules
        return {first: self.slug} | {name: f"{self.slug}_{name}" for name in others}


def plan(name: str, source: str, *, title: str = "", pairs: Path | None = None) -> Study:
    """The study that is asked for; UserError where that is none, or its name is taken."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise UserError(
            f"a study cannot be called {name!r}: give small letters, digits and single hyphens, "
            f"a letter first, at most {LONGEST_NAME} characters, like my-study"
        )
    if len(title.splitlines()) > 1:
        raise UserError("a title is one line")
    if pairs is not None and not _PAIRS_NAME.fullmatch(pairs.name):
        raise UserError(f"{pairs}: name the file of pairs after its relation, like my_pairs.csv")
    chapters = find_chapters()
    (chosen,) = choose_chapters([source], chapters)
    number = chapters[-1].number + 1
    if number > 99:
        raise UserError("there is no number left for a chapter: 99 is the last")
    slug = name.replace("-", "_")
    heading = title.strip() or slug.replace("_", " ").capitalize()
    study = Study(slug=slug, number=number, title=heading, source=chosen, pairs=pairs)
    _refuse_taken(study, chapters)
    return study


def _refuse_taken(study: Study, chapters: tuple[Chapter, ...]) -> None:
    """UserError for a name that something has already, half an earlier study included."""
    taken = [one.path for one in chapters if one.name[3:] == study.slug]
    for path in (*taken, study.folder, study.test):
        if path.exists():
            where = path.relative_to(paths.ROOT).as_posix()
            raise UserError(f"{where} is there already: choose another name, or remove it first")
    known = studies.all_rules()
    for name in study.ids.values():
        if name in known:
            raise UserError(f"{known[name].chapter} has a rule {name!r}: choose another name")
