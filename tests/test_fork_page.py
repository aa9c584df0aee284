"""The page on forking, followed to the letter in a copy of the project."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ovectors.claims import Claim
from trial_run import remove_studies

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "book" / "fork_a_chapter.md"
STUDY = "08_elements_by_symbol"
# Every fenced block: its language, the file that it is the content of, if any, and its text.
BLOCK = re.compile(
    r"^```(?:\{code-block\} )?(\w+)\n(?::caption: (\S+)\n\n)?(.*?)^```$", re.MULTILINE | re.DOTALL
)
ACTIVATE = ". .venv/bin/activate"


def blocks() -> list[tuple[str, str, str]]:
    """Language, file and text of the page's blocks, in their order."""
    return BLOCK.findall(PAGE.read_text("utf-8"))


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def copy_of_the_project(folder: Path) -> Path:
    """What a clone would hold, uncommitted changes included, as a repository of its own."""
    listed = git(REPOSITORY, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((REPOSITORY / name).read_bytes())
    remove_studies(folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    here = f'PATH="{Path(sys.executable).parent}:$PATH"\n'  # in place of the `make` that makes it
    (folder / ".venv" / "bin" / "activate").write_text(here)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    return folder


@dataclass
class Reader:
    """Somebody who follows the page, and what they saw on the way.

    Attributes:
        said: what each block of commands, or of Python, printed.
        kept: files as they were before the page takes everything back.
    """

    folder: Path
    said: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    def follow(self) -> None:
        """Do what each block says."""
        for language, file, text in blocks():
            if file:
                (self.folder / file).write_text(text, encoding="utf-8")
            elif language == "python":
                self._run([sys.executable, "-c", text], text)
            else:
                assert language == "sh", f"a block of {language} that nobody would know how to use"
                self._run(["bash", "-euc", f"{ACTIVATE}\n{text}"], text)
            if "ovectors book" in text:
                self._keep()

    def _run(self, command: list[str], text: str) -> None:
        own = {"PYTHONPATH": str(self.folder / "lib"), "HF_HUB_OFFLINE": "1"}
        own |= {f"GIT_{who}_{what}": "reader@localhost" for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")}  # fmt: skip
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OVECTORS_", "PYTEST_"))}
        ran = subprocess.run(
            command,
            cwd=self.folder,
            env=kept | own,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert ran.returncode == 0, f"{text}\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
        self.said[text] = ran.stdout

    def _keep(self) -> None:
        built, runs = self.folder / "_build" / "html", self.folder / "book" / "runs"
        for name, path in {
            "front": built / "index.html",
            "chapter": built / "runs" / "mini-2m" / f"{STUDY}.html",
            "across": built / "runs" / "all" / "06_across_models.html",
            "claim": runs / "mini-2m" / STUDY / "claims" / "elements_by_symbol.json",
        }.items():
            self.kept[name] = path.read_text("utf-8")


def words_of(page: str) -> str:
    """What stands on a page, with straight quotes."""
    return html.unescape(re.sub(r"<[^>]+>", "", page)).replace("’", "'")


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Reader:
    found = Reader(folder=copy_of_the_project(tmp_path_factory.mktemp("reader")))
    git(found.folder, "-c", "user.name=r", "-c", "user.email=r@r", "commit", "-qm", "As cloned")
    found.follow()
    return found


def test_every_block_of_the_page_is_one_that_the_test_follows():
    fences = PAGE.read_text("utf-8").count("\n```") // 2
    found = blocks()
    assert len(found) == fences >= 9
    assert {language for language, file, _ in found if not file} == {"sh", "python"}
    assert sum("ovectors fork" in text for _, _, text in found) == 2


@pytest.mark.slow
@pytest.mark.kernel
@pytest.mark.book
class TestFollowed:
    """All of these look at one reader's way through the page."""

    def test_the_card_is_that_of_the_reader_s_own_rule(self, reader):
        claim = Claim.model_validate_json(reader.kept["claim"])
        front = reader.kept["front"]
        assert 'id="claim-elements_by_symbol"' in front
        card = front[front.index('id="claim-elements_by_symbol"') :]
        card = card[: card.index("</section>")]
        assert claim.question == "Does the mechanism run backwards, from symbols to elements?"
        assert claim.question in card and f"> {claim.verdict}<" in card
        assert "on symbols and their elements" in card
        assert f'href="runs/mini-2m/{STUDY}.html"' in card and "--chapter 8<" in card
        assert "with local changes" not in card

    def test_it_was_measured_on_the_reader_s_pairs(self, reader):
        claim = Claim.model_validate_json(reader.kept["claim"])
        assert {one.relation for one in claim.measured} == {"elements_by_symbol"}
        (pairs,) = (text for _, file, text in blocks() if file.endswith(".csv"))
        assert 20 <= max(one.n for one in claim.measured) <= len(pairs.splitlines()) - 1
        assert "elements by symbol" in reader.kept["chapter"]

    def test_it_stands_among_the_others_in_the_comparison(self, reader):
        claim = Claim.model_validate_json(reader.kept["claim"])
        across = words_of(reader.kept["across"])
        assert f"Elements by symbol (not in the paper): {claim.question}" in across
        assert claim.why in across

    def test_evidence_of_one_s_own_is_judged(self, reader):
        (said,) = (out for text, out in reader.said.items() if "claims.judge(" in text)
        assert re.match(r"(supported|partly|not supported|not testable here) - \w", said)

    def test_nothing_is_left_of_what_was_taken_back(self, reader):
        assert git(reader.folder, "status", "--porcelain") == ""
        first = git(reader.folder, "rev-list", "--max-parents=0", "HEAD").strip()
        assert git(reader.folder, "diff", "--stat", first, "HEAD") == ""
        assert not [*(reader.folder / "book" / "runs" / "mini-2m").glob("08_*")]
