"""Every built page as readers meet it: opened from its file, weighed, judged, enlarged, printed.

Needs what `test_browser` needs. Each page is visited once in each window, and what was seen is
judged by several tests; its picture is kept in `_build/screenshots/`.
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from browser_fixtures import html_pages, watch
from ovectors import pages, paths

pytestmark = pytest.mark.browser
SCREENSHOTS = paths.BUILD / "screenshots"
PAGE_BUDGET, TASK_BUDGET = 1_500_000, 300_000
"""Bytes: a page's first view without its images; the explorer's data of one model and task."""
WINDOWS = [(1440, "light"), (360, "dark")]
AXE = {"resultTypes": ["violations"], "preload": False}  # preloading asks for files, in vain
ROOT = "document.documentElement"


@dataclass(kw_only=True)
class Visit:
    """What was seen of one page in one window."""

    name: str
    scheme: str
    trouble: list[str]
    too_wide: int
    theme: str
    bytes_loaded: int
    violations: list[str] = field(default_factory=list)


@pytest.fixture(scope="module", params=WINDOWS, ids=["desk", "phone"])
def visits(request, book, browser) -> list[Visit]:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is not installed"
    )
    width, scheme = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    seen = [visit(context, path, book, scheme, axe.Axe()) for path in html_pages(book)]
    context.close()
    return seen


def visit(context, path: Path, root: Path, scheme: str, axe) -> Visit:
    page = context.new_page()
    page.set_default_timeout(120_000)
    trouble, loaded = watch(page), set()
    page.on("request", lambda one: one.resource_type == "image" or loaded.add(one.url))
    page.goto(path.as_uri(), wait_until="load")
    name = path.relative_to(root).with_suffix("").as_posix()
    found = axe.run(page, options=AXE).response["violations"]
    seen = Visit(
        name=name,
        scheme=scheme,
        trouble=trouble,
        too_wide=page.evaluate(f"{ROOT}.scrollWidth - {ROOT}.clientWidth"),
        theme=page.evaluate(f"{ROOT}.dataset.theme"),
        bytes_loaded=sum(size_of(url) for url in loaded),
        violations=[in_words(one) for one in found if one["impact"] in ("serious", "critical")],
    )
    folder = SCREENSHOTS / f"{page.viewport_size['width']}-{scheme}"
    file = folder / f"{name.replace('/', '-')}.jpg"
    page.screenshot(path=file, full_page=True, type="jpeg", quality=70, animations="disabled")
    page.close()
    return seen


def size_of(url: str) -> int:
    parts = urlparse(url)
    return Path(unquote(parts.path)).stat().st_size if parts.scheme == "file" else 0


def in_words(violation: dict) -> str:
    where = [str(node["target"][0]) for node in violation["nodes"]]
    return f"{violation['id']} at {len(where)} places, such as {where[0]}"


def test_every_page_opens_without_trouble(visits):
    assert len(visits) > 10
    assert [(one.name, one.trouble) for one in visits if one.trouble] == []


def test_every_page_fits_the_window(visits):
    assert [(one.name, one.too_wide) for one in visits if one.too_wide > 0] == []


def test_every_page_follows_the_readers_colour_scheme(visits):
    assert [(one.name, one.theme) for one in visits if one.theme != one.scheme] == []


def test_no_page_has_a_serious_barrier(visits):
    assert [(one.name, one.violations) for one in visits if one.violations] == []


def test_the_first_view_of_every_page_is_within_its_budget(visits):
    heavy = [(one.name, one.bytes_loaded) for one in visits if one.bytes_loaded > PAGE_BUDGET]
    assert heavy == [] and min(one.bytes_loaded for one in visits) > 100_000


def test_the_explorers_data_are_within_their_budget(book):
    sizes = {path.name: path.stat().st_size for path in book.glob("explorer/*/*.js")}
    if not sizes:
        pytest.skip("the explorer has no data: `ovectors explore MODEL` comes first")
    assert max(sizes.values()) < TASK_BUDGET


def test_the_landing_page_says_it_all_in_one_screen(book, opened):
    page = opened(book / "index.html")  # 1300 by 900
    for last in (".first-view svg", ".verdict-list", "article p:has(a[href^=how_to_read])"):
        place = page.locator(last).first.bounding_box()
        assert place["y"] + place["height"] <= 900, last


# Figures


def chapter_pages(root: Path) -> list[Path]:
    """The pages of executed chapters that draw something."""
    return [path for path in html_pages(root) if "figure-tools" in path.read_text("utf-8")]


@pytest.fixture
def chapter(book, opened):
    found = chapter_pages(book)
    assert found

    def open_chapter(**window):
        return opened(found[0], **window)

    return open_chapter


def test_every_figure_of_a_chapter_offers_its_drawing_and_its_data(book):
    for path in chapter_pages(book):
        text = path.read_text("utf-8")
        drawn = len(re.findall(r'<figure [^>]*id="fig-', text))
        offered = re.findall(r'<div class="figure-tools".*?</div>', text, re.DOTALL)
        assert len(offered) == drawn > 0, path.name
        for tools in offered:
            links = re.findall(r'href="([^"]+)"', tools)
            (drawing,) = (one for one in links if one.endswith(".svg"))
            assert "<svg" in (path.parent / drawing).read_text("utf-8")
            tables = [one for one in links if one.endswith(".csv")]
            assert tables, path.name
            for table in tables:
                rows = list(csv.reader((path.parent / table).open(encoding="utf-8", newline="")))
                assert len(rows[0]) > 1 and {len(row) for row in rows} == {len(rows[0])}
                assert (path.parent / table).with_suffix(".parquet").is_file()
            assert "<dt>Key</dt>" in tools and "<code>ovectors run " in tools


@pytest.mark.parametrize("width", [1440, 360])
def test_a_figure_is_enlarged_by_mouse_and_shut_again(chapter, width):
    page = chapter(width=width)
    button = page.get_by_role("button", name=re.compile("^Enlarge figure")).first
    small = page.locator("figure img").first
    button.click()
    dialog = page.get_by_role("dialog", name=re.compile("^Figure .*enlarged"))
    large = dialog.locator("img")
    assert large.get_attribute("src") == small.get_attribute("src")
    assert large.get_attribute("src").endswith(".svg")
    assert large.get_attribute("alt") == small.get_attribute("alt")
    assert large.evaluate("one => one.naturalWidth") > 0
    assert large.bounding_box()["width"] > 1.2 * small.bounding_box()["width"]
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible() and page.trouble == []


def test_a_figure_is_enlarged_by_keyboard_and_the_focus_comes_back(chapter):
    page = chapter()
    button = page.get_by_role("button", name=re.compile("^Enlarge figure")).nth(1)
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.is_visible()
    inside = "document.activeElement.closest('dialog') !== null"
    for _ in range(3):  # the focus never gets behind the dialog
        assert page.evaluate(f"{inside} || document.activeElement === document.body")
        page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == (
        button.get_attribute("aria-label")
    )
    page.keyboard.press("Enter")  # and it opens again
    assert dialog.is_visible() and dialog.locator("img").count() == 1


def test_how_a_figure_was_made_unfolds(chapter):
    page = chapter()
    fold = page.locator(".figure-tools details").first
    assert not fold.locator("dl").is_visible()
    fold.locator("summary").focus()
    page.keyboard.press("Enter")
    assert fold.locator("dl").is_visible()


def test_figures_are_dark_in_the_dark(chapter):
    drawing = "figure img[src$='.svg']"
    looks = "one => getComputedStyle(one).filter"
    assert chapter(scheme="light").locator(drawing).first.evaluate(looks) == "none"
    assert "invert(1)" in chapter(scheme="dark").locator(drawing).first.evaluate(looks)


# Chapters


def test_a_chapters_buttons_lead_to_its_notebook(book, opened):
    url = pages.book_config()["repository"]["url"]
    owner = url.removeprefix("https://github.com/")
    for path in chapter_pages(book):
        page = opened(path)
        links = page.locator(".article-header-buttons a").evaluate_all(
            "all => all.map((one) => [one.getAttribute('href'), one.innerText])"
        )
        addresses = [address for address, _ in links]
        notebook = f"chapters/{path.stem}.ipynb"
        assert any(
            one.endswith(f"/gh/{owner}/main?urlpath=lab/tree/{notebook}") for one in addresses
        )
        assert any(one.endswith(f"/github/{owner}/blob/main/{notebook}") for one in addresses)
        local = [
            path.parent / one for one in addresses if one.endswith(".ipynb") and "://" not in one
        ]
        assert len(local) == 2
        outputs = [
            sum(len(cell.get("outputs", [])) for cell in json.loads(one.read_text())["cells"])
            for one in local
        ]
        assert outputs[0] == 0 < outputs[1]
        page.context.close()


def test_code_is_hidden_opens_and_can_be_copied(chapter):
    page = chapter()
    cell = page.locator("div.cell details").first
    assert not cell.locator("pre").is_visible()
    cell.locator("summary").click()
    assert cell.locator("pre").is_visible()
    assert cell.locator("button.copybtn").count() == 1


# Paper

PAPER = 690  # the width of A4 between its margins, in CSS pixels
CUT = """() => [...document.querySelectorAll("article *")].filter((one) => {
  const style = getComputedStyle(one);
  const hides = !["visible", "clip"].includes(style.overflowX);
  return one.clientWidth > 1 && hides && one.scrollWidth > one.clientWidth + 1;
}).map((one) => one.tagName + "." + one.className)"""


def on_paper(page) -> None:
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")


def test_nothing_is_cut_on_paper(book, opened):
    cut = []
    for path in html_pages(book):
        page = opened(path, width=PAPER)
        on_paper(page)
        wide = page.evaluate(f"{ROOT}.scrollWidth - {ROOT}.clientWidth")
        cut += [(path.name, one) for one in page.evaluate(CUT)]
        cut += [(path.name, f"{wide} px too wide")] if wide > 0 else []
        for hidden in (".bd-sidebar-primary", ".bd-header-article", ".prev-next-footer"):
            if any(one.is_visible() for one in page.locator(hidden).all()):
                cut.append((path.name, f"{hidden} is printed"))
        page.context.close()
    assert cut == []


def test_a_dark_page_prints_light_and_unfolded_and_is_dark_again(book, opened):
    page = opened(book / "index.html", scheme="dark")
    rules = page.locator(".claim-card details, details.quoted-findings")
    rules.last.locator("summary").click()
    on_paper(page)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert light == "rgb(255, 255, 255)" and page.evaluate(f"{ROOT}.dataset.theme") == "light"
    assert all(one.get_attribute("open") is not None for one in rules.all())
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(f"{ROOT}.dataset.theme") == "dark"
    assert [one.get_attribute("open") is not None for one in rules.all()] == [
        *[False] * (rules.count() - 1),
        True,
    ]


def test_a_card_that_is_unfolded_stays_on_a_phones_screen(book, opened):
    page = opened(book / "index.html", width=360)
    for fold in page.locator(".claim-card details > summary").all():
        fold.click()
    edges = "(cards) => Math.max(...cards.map((one) => one.getBoundingClientRect().right))"
    assert page.locator(".claim-card").evaluate_all(edges) <= 360


def test_the_browser_itself_unfolds_what_it_prints(book, opened):
    page = opened(book / "index.html")
    page.evaluate("addEventListener('beforeprint', () => { document.title = 'printed'; })")
    assert page.pdf().startswith(b"%PDF") and page.title() == "printed"
