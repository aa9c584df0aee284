"""What pages need no script for: equations as MathML, and icons by a file of a few kilobytes."""

from __future__ import annotations

import re
from importlib import resources
from xml.etree import ElementTree

import nbformat
import pytest
from sphinx.errors import ExtensionError

from ovectors import notebooks, paths, sphinx_icons
from ovectors.sphinx_math import UnknownCommand, as_mathml

EQUATION = re.compile(r"(?<!\\)\$\$(.+?)\$\$|(?<![\\$])\$([^$\n]+)\$", re.DOTALL)
THEME = resources.files("pydata_sphinx_theme") / "theme" / "pydata_sphinx_theme"


def equations() -> list[tuple[str, bool]]:
    """Every equation of chapters and pages, and whether it stands by itself."""
    texts = [page.read_text("utf-8") for page in paths.BOOK.glob("*.md")]
    for chapter in notebooks.find_chapters():
        cells = nbformat.read(chapter.path, as_version=4).cells
        texts += [cell.source for cell in cells if cell.cell_type == "markdown"]
    found = (match for text in texts for match in EQUATION.finditer(text))
    return [(match[1] or match[2], bool(match[1])) for match in found]


def test_every_equation_of_the_book_becomes_mathml():
    found = equations()
    assert len(found) > 50
    for tex, block in found:
        made = as_mathml(tex.strip(), block=block)
        assert made.startswith("<math") and "\\" not in re.sub(r"<mtext>.*?</mtext>", "", made)
        assert ('display="block"' in made) == block


def shape(tex: str, *, block: bool = False) -> str:
    """The elements of an equation, innermost rows left out: `msub(mover(mi,mo),mi)`."""

    def of(node: ElementTree.Element) -> str:
        name, inner = node.tag.rpartition("}")[2], ",".join(map(of, node))
        if name == "mrow":
            return inner
        return f"{name}({inner})" if inner else name

    return of(ElementTree.fromstring(as_mathml(tex, block=block)))


def test_an_equation_has_the_parts_it_should():
    assert shape(r"\hat{o}_i") == "math(msub(mover(mi,mo),mi))"
    assert shape(r"\frac{a}{b}") == "math(mfrac(mi,mi))"
    assert shape(r"o_i^{(j)}, \dots") == "math(msubsup(mi,mi,mo,mi,mo),mo,mo)"
    assert shape(r"a &= b \\ c &= d", block=True).count("mtr(") == 2


@pytest.mark.parametrize("tex", [r"\nonesuch{x}", r"\left(a", r"a^b^c"])
def test_what_is_not_understood_is_refused(tex):
    with pytest.raises(UnknownCommand):
        as_mathml(tex, block=False)


def test_icons_are_taken_from_the_themes_own_file():
    script = (THEME / "static" / "scripts" / "fontawesome.js").read_text("utf-8")
    page = (
        '<i class="fas fa-download"></i><i class="fab fa-github fa-lg"></i>'
        '<i class="fa-regular fa-file"></i><i class="theme-switch fa-solid fa-sun"></i>'
        '<i class="icon"></i>'
    )
    used = sphinx_icons.used_icons(page)
    assert used == {("fas", "download"), ("fab", "github"), ("far", "file"), ("fas", "sun")}
    made = sphinx_icons.smaller(script, sorted(used))
    assert len(made) < 10_000 < 1_000_000 < len(script)
    paths_of = re.findall(r'"(fa\w fa-\w+)": \[\d+, \d+, "(M[^"]+)"\]', made)
    assert {name for name, _ in paths_of} == {f"{pack} fa-{name}" for pack, name in used}
    assert all(f'"{path}"' in script for _, path in paths_of)
    solid = sphinx_icons.smaller(script, [("fas", "file")])
    regular = sphinx_icons.smaller(script, [("far", "file")])
    assert solid.partition("[")[2] != regular.partition("[")[2]


@pytest.mark.parametrize("icon", [("fas", "github"), ("fab", "none-such"), ("fat", "sun")])
def test_an_icon_that_the_theme_lacks_fails_the_build(icon):
    script = (THEME / "static" / "scripts" / "fontawesome.js").read_text("utf-8")
    with pytest.raises(ExtensionError, match="has no icon"):
        sphinx_icons.smaller(script, [icon])
