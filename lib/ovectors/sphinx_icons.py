"""The few icons that pages use, in place of all of Font Awesome.

The theme loads a script of 1.5 MB that turns `<i class="fas fa-download">` into a drawing. When the
book is built, that file is replaced by one that knows the icons that are used, taken from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.errors import ExtensionError

if TYPE_CHECKING:
    from sphinx.application import Sphinx

SCRIPT = "_static/scripts/fontawesome.js"
_PACKS = {"fab": "fab", "fa-brands": "fab", "far": "far", "fa-regular": "far"}  # others: solid
_STYLES = {*_PACKS, "fas", "fa-solid", "fa"}
_SIZES = {"fa-lg", "fa-fw", "fa-spin"}
_MADE_BY_SCRIPTS = {("fas", "xmark")}
"""Icons that no page holds: the theme's own script makes them."""
_DRAW = """
for (const place of document.querySelectorAll("i[class*='fa-']")) {
  const named = [...place.classList];
  const pack = named.map((one) => packs[one]).find(Boolean) || "fas";
  const name = named.find((one) => icons[`${pack} ${one}`]);
  if (!name) continue;
  const [width, height, path] = icons[`${pack} ${name}`];
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
  drawing.setAttribute("aria-hidden", "true");
  drawing.setAttribute("class", `svg-inline--fa ${place.className}`);
  for (const { name, value } of place.attributes) {
    if (name !== "class") drawing.setAttribute(name, value);
  }
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  line.setAttribute("fill", "currentColor");
  drawing.append(line);
  place.replaceWith(drawing);
}
"""


def keep_used_icons(app: Sphinx, failed: Exception | None) -> None:
    """Replace the theme's file in the built book; ExtensionError for an icon it does not have."""
    script = Path(app.outdir) / SCRIPT
    if failed or app.builder.format != "html" or not script.is_file():
        return
    used = {*_MADE_BY_SCRIPTS}
    for page in Path(app.outdir).rglob("*.html"):
        used |= used_icons(page.read_text("utf-8"))
    script.write_text(smaller(script.read_text("utf-8"), sorted(used)), "utf-8")


def used_icons(page: str) -> set[tuple[str, str]]:
    """The pack and name of each icon in a page's HTML."""
    found = set()
    for match in re.finditer(r'<i class="([^"]*\bfa-[^"]*)"', page):
        classes = match[1].split()
        pack = next((_PACKS[one] for one in classes if one in _PACKS), "fas")
        found |= {
            (pack, one.removeprefix("fa-"))
            for one in classes
            if one.startswith("fa-") and one not in _STYLES | _SIZES
        }
    return found


def smaller(script: str, used: Iterable[tuple[str, str]]) -> str:
    """A script that draws the used icons, whose outlines are read from Font Awesome's."""
    icons = {f"{pack} fa-{name}": _outline(script, pack, name) for pack, name in used}
    packs = json.dumps(_PACKS)
    return (
        "// Icons of Font Awesome Free (https://fontawesome.com/license/free), CC BY 4.0.\n"
        f"(() => {{\nconst packs = {packs};\nconst icons = {json.dumps(icons)};{_DRAW}}})();\n"
    )


def _outline(script: str, pack: str, name: str) -> tuple[int, int, str]:
    """Width, height and path of one icon."""
    end = script.find(f'"{pack}",p)')
    start = max(script.rfind('",p)', 0, end), 0)
    entry = rf'[{{,]"?{re.escape(name)}"?:\[(\d+),(\d+),\[[^\]]*\],"[0-9a-f]*","([^"]+)"\]'
    match = re.search(entry, script[start:end]) if end >= 0 else None
    if match is None:
        raise ExtensionError(f"the theme's {SCRIPT} has no icon {name!r} of {pack!r}")
    return int(match[1]), int(match[2]), match[3]
