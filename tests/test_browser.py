"""The built book in a browser: links, cards and the explorer, by mouse and keyboard, in any light.

Needs the book (`make book`), Playwright (`pip install -e '.[browser]'`) and a Chromium.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from browser_fixtures import BRIGHTNESS, html_pages
from ovectors.explorer import files

pytestmark = pytest.mark.browser


class Parsed(HTMLParser):
    """Links, anchors and images of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.images: list[dict] = []
        self.drawings: list[dict] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag == "img":
            self.images.append(found)
        if tag == "svg" and found.get("role") == "img":
            self.drawings.append(found)


def test_every_internal_link_and_anchor_resolves(book):
    pages = {path: Parsed(path) for path in html_pages(book)}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link):
                continue
            address, _, anchor = unquote(link).partition("#")
            address = address.partition("?")[0]
            target = (path.parent / address).resolve() if address else path
            if not target.is_file():
                broken.append(f"{path.name}: {link}")
            elif anchor and target.suffix == ".html":
                known = pages[target].ids if target in pages else Parsed(target).ids
                broken += [] if anchor in known else [f"{path.name}: {link}"]
    assert not broken


def test_every_image_has_a_text_alternative_that_is_no_file_name(book):
    poor, seen = [], 0
    for path in html_pages(book):
        page = Parsed(path)
        for image in page.images:
            if "logo" in image.get("class", ""):
                continue
            seen += 1
            alt, file = image.get("alt", "").strip(), Path(image.get("src", "")).name
            if not alt or alt in (file, Path(file).stem) or re.fullmatch(r"\S+\.(png|svg)", alt):
                poor.append(f"{path.name}: {alt!r}")
        for drawing in page.drawings:
            seen += 1
            poor += [] if drawing.get("aria-label") else [f"{path.name}: a drawing"]
    assert seen and not poor


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_cards_can_be_read_in_any_light(book, opened, scheme):
    page = opened(book / "index.html", scheme=scheme)
    found = page.evaluate(BRIGHTNESS, ".claim-card .verdict, .claim-made, .claim-origin")
    assert found and min(found) >= 4.5


def test_a_cards_rule_opens_by_keyboard(book, opened):
    page = opened(book / "index.html")
    card = page.locator(".claim-card").first
    table = card.locator("table")
    assert not table.is_visible()
    card.locator("summary").focus()
    page.keyboard.press("Enter")
    assert table.is_visible() and card.locator("details").get_attribute("open") is not None


# The explorer


@pytest.fixture
def explorer(book, opened):
    """Opens the explorer and waits for its data; gives the page and what its file holds."""
    index = (book / "explorer" / "index.js").read_text("utf-8")
    listed = json.loads(index[index.index("(") + 1 : index.rindex(")")])
    if not listed:
        pytest.skip("the explorer has no data: `ovectors explore MODEL` comes first")

    def open_explorer(address: str = "", **window):
        page = opened(book / "explorer.html", address, **window)
        page.wait_for_selector("#ov-explorer[data-ready]")
        name = page.locator("#ov-explorer").get_attribute("data-ready")
        return page, files.read(book / "explorer" / f"{name}.js")

    return open_explorer


def field(page, name: str):
    return page.locator(f'#ov-explorer [data-ov="{name}"]')


def shown_tokens(page, column: int) -> list[str]:
    return page.locator(f"#ov-explorer tbody tr td:nth-of-type({column}) b").all_text_contents()


def top_of(found: dict, rows: list) -> list[str]:
    """The words that rows of [token, ...] put on top."""
    return [found["words"][row[0]].strip() or "↵" for row in rows]


def test_the_explorer_by_mouse(explorer):
    page, found = explorer()
    item = found["items"][0]
    after = [[state[0][0]] for state in item["states"]["after"]]
    assert shown_tokens(page, 1 + len(found["parts"])) == top_of(found, after)
    assert field(page, "prompt").text_content() == item["question"]
    field(page, "next").click()
    assert field(page, "item").input_value() == "1"
    second = found["items"][1]
    field(page, "intervention").select_option("vector")
    assert field(page, "prompt").text_content() == second["pattern"]
    assert shown_tokens(page, 1) == top_of(found, second["runs"]["pattern"])
    assert shown_tokens(page, 2) == top_of(found, second["runs"]["vector"])
    assert "Unchanged:" in field(page, "summary").text_content()
    changed = page.locator("#ov-explorer tr.ov-intervened").count()
    assert changed == found["layers"] - found["vector"]["start"]
    assert page.trouble == []


def test_cells_have_the_colour_of_their_ranks(explorer):
    page, found = explorer()
    for number, item in enumerate(found["items"][:3]):
        field(page, "item").select_option(str(number))
        ranks = [state[2:] for state in item["states"]["after"]]
        kinds = [
            "is-answer" if y == 1 else "is-argument" if x == 1 else "is-neither" for x, y in ranks
        ]
        cells = page.locator("#ov-explorer tbody tr td:last-of-type").all()
        assert [cell.get_attribute("class") for cell in cells] == kinds


def test_the_explorer_by_keyboard(explorer):
    page, found = explorer()
    order = [page.evaluate("document.activeElement.dataset.ov || ''")]
    field(page, "model").focus()
    for _ in range(7):
        order.append(page.evaluate("document.activeElement.dataset.ov || 'layer'"))
        page.keyboard.press("Tab")
    assert order[1:] == ["model", "task", "item", "intervention", "previous", "next", "link"]
    assert page.evaluate("document.activeElement.dataset.layer") == "0"
    page.keyboard.press("Enter")
    detail = field(page, "detail")
    assert "Layer 0:" in detail.text_content()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.layer") == "1"
    best = found["items"][0]["states"]["after"][1][0]
    listed = detail.locator("div > div:last-child li").all_text_contents()
    assert [re.sub(r"-?[\d.]+$", "", one) for one in listed] == top_of(found, [[b] for b in best])
    field(page, "item").focus()
    page.keyboard.press("ArrowDown")
    assert field(page, "item").input_value() == "1"
    assert field(page, "prompt").text_content() == found["items"][1]["question"]


def test_a_link_leads_to_the_same_view(explorer):
    page, found = explorer()
    field(page, "item").select_option("2")
    field(page, "intervention").select_option("removed")
    address = field(page, "link").get_attribute("href")
    again, same = explorer(address)
    assert field(again, "item").input_value() == "2" and same["task"] == found["task"]
    assert field(again, "intervention").input_value() == "removed"
    assert shown_tokens(again, 2) == top_of(found, found["items"][2]["runs"]["removed"])


def test_a_link_that_names_nothing_opens_the_first_view(explorer):
    page, found = explorer("?model=none&task=none&item=-7&intervention=none-such")
    assert field(page, "item").input_value() == "0"
    assert field(page, "intervention").input_value() == "none"
    assert field(page, "prompt").text_content() == found["items"][0]["question"]


def test_another_task_is_loaded_when_it_is_chosen(explorer):
    page, found = explorer()
    tasks = field(page, "task").locator("option").all()
    if len(tasks) < 2:
        pytest.skip("there are data of one task only")
    other = next(
        name for name in (one.get_attribute("value") for one in tasks) if name != found["task"]
    )
    field(page, "task").select_option(other)
    page.wait_for_selector(f'#ov-explorer[data-ready$="/{other}"]')
    assert page.trouble == [] and f"task={other}" in field(page, "link").get_attribute("href")


def test_the_explorer_fits_a_phone_in_the_dark(explorer):
    page, _ = explorer(width=360, scheme="dark")
    field(page, "intervention").select_option("vector")
    root = "document.documentElement"
    assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth")
    assert page.evaluate(BRIGHTNESS, "#ov-explorer td b, #ov-explorer small")
    assert min(page.evaluate(BRIGHTNESS, "#ov-explorer td b, #ov-explorer td small")) >= 4.5
