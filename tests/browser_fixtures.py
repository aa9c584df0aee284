"""What tests of the built book in a browser share; `conftest.py` offers the fixtures to them all.

Needs the book (`make book`), Playwright (`pip install -e '.[browser]'`) and a Chromium.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovectors import paths

BOOK = Path(os.environ.get("OVECTORS_BOOK", paths.BUILD / "html"))
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

# Contrast of the text of every chosen element with the page behind it.
BRIGHTNESS = """(selector) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => {
      const share = v / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll(selector)].map((one) => {
    const own = light(getComputedStyle(one).color);
    return (Math.max(own, ground) + 0.05) / (Math.min(own, ground) + 0.05);
  });
}"""


@pytest.fixture(scope="module")
def book() -> Path:
    if not (BOOK / "index.html").is_file():
        pytest.skip("the book is not built: `make book` comes first")
    return BOOK


@pytest.fixture(scope="module")
def browser(book) -> Iterator:
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    with api.sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        if found is None and not own.is_file():
            pytest.skip(f"there is no Chromium: no {', no '.join(CHROMIUMS)}, none of Playwright's")
        opened = playwright.chromium.launch(executable_path=found, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def opened(browser) -> Iterator:
    """Opens a page of the book in a window of its own; closes it afterwards."""
    contexts = []

    def open_page(path: Path, address: str = "", *, width: int = 1300, scheme: str = "light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.trouble = watch(page)
        page.goto(path.as_uri() + address)
        return page

    yield open_page
    for context in contexts:
        context.close()


def watch(page) -> list[str]:
    """Collects console errors, failed requests, and requests that leave the folder."""
    trouble: list[str] = []
    page.on("console", lambda one: trouble.append(one.text) if one.type == "error" else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on(
        "requestfailed",
        lambda one: (
            None  # the page was left before it was whole
            if one.failure == "net::ERR_ABORTED"
            else trouble.append(f"failed: {one.url}")
        ),
    )
    page.on(
        "request",
        lambda one: (
            None
            if one.url.startswith(("file:", "data:", "blob:"))
            else trouble.append(f"asked for {one.url}")
        ),
    )
    return trouble


def html_pages(book: Path) -> list[Path]:
    found = [*book.glob("*.html"), *book.glob("runs/*/*.html")]
    return sorted(path for path in found if path.name not in ("genindex.html", "search.html"))
