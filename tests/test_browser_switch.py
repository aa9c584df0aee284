"""The model switch in a browser, on a small book of made-up runs."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

import made_up_book
from browser_fixtures import BRIGHTNESS
from made_up_book import BEYOND, RETRIEVAL, STAGES, ZERO_SHOT

pytestmark = [pytest.mark.browser, pytest.mark.book]
BLOCKED = """
for (const name of ["getItem", "setItem", "removeItem"]) {
  const real = Storage.prototype[name];
  Storage.prototype[name] = function (key, ...rest) {
    if (String(key).startsWith("ovectors")) throw new DOMException("blocked", "SecurityError");
    return real.call(this, key, ...rest);
  };
}
"""


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as monkeypatch:
        made_up_book.make(tmp_path_factory.mktemp("book") / "project", monkeypatch)
        yield made_up_book.build()


@pytest.fixture
def chapter(book, opened):
    """Opens a chapter's page."""

    def open_chapter(model: str, name: str, address: str = "", **window):
        return opened(book / "runs" / model / f"{name}.html", address, **window)

    return open_chapter


def where(page) -> tuple[str, str]:
    """Model and chapter of the page that is shown, once it is whole."""
    page.wait_for_load_state("load")
    page.wait_for_selector(".ov-switch select", state="attached")
    model, file = urlsplit(page.url).path.split("/")[-2:]
    assert switch(page).input_value() == model
    assert page.evaluate("document.documentElement.style.visibility") == ""
    return model, file.removesuffix(".html")


def switch(page):
    return page.get_by_label("Model", exact=True)


def arrive(page, model: str) -> None:
    """Wait for the page of a model; where it does not come, say what the switch had to go by."""
    from playwright.sync_api import TimeoutError as NeverCame

    try:
        page.wait_for_url(f"**/{model}/*")
    except NeverCame:
        stored = page.evaluate("localStorage.getItem('ovectors.model')")
        pytest.fail(f"no page of {model}: still at {page.url}, with {stored!r} remembered")


def choose(page, model: str) -> None:
    switch(page).select_option(model)
    arrive(page, model)


def click(page, selector: str) -> None:
    with page.expect_navigation():
        page.locator(selector).first.click()


def asked(page) -> list[str]:
    return parse_qs(urlsplit(page.url).query).get("model", [])


def test_the_switch_leads_to_the_chapter_on_another_model(chapter):
    page = chapter("gpt2", STAGES)
    assert where(page) == ("gpt2", STAGES)
    choose(page, "gpt2-medium")
    assert where(page) == ("gpt2-medium", STAGES) and asked(page) == ["gpt2-medium"]
    assert "The numbers of gpt2-medium." in page.locator("article").text_content()
    assert urlsplit(page.url).fragment == "" and page.trouble == []


def test_the_choice_is_remembered_on_other_pages(chapter, book):
    page = chapter("gpt2", STAGES)
    choose(page, "gpt2-medium")
    click(page, "a.right-next")
    assert where(page) == ("gpt2-medium", RETRIEVAL)
    page.goto((book / "runs" / "gpt2" / f"{STAGES}.html").as_uri())
    arrive(page, "gpt2-medium")
    assert where(page) == ("gpt2-medium", STAGES)
    click(page, f"nav.bd-docs-nav a[href*='{BEYOND}']")
    assert where(page) == ("gpt2", BEYOND)  # there is none on gpt2-medium
    assert page.get_by_role("status").text_content() == (
        "There are no results of this chapter on gpt2-medium. Shown: gpt2."
    )
    page.goto((book / "index.html").as_uri())
    click(page, f"article a[href*='{RETRIEVAL}']")
    arrive(page, "gpt2-medium")
    assert where(page) == ("gpt2-medium", RETRIEVAL)


def test_a_link_leads_to_the_model_and_is_remembered(chapter):
    page = chapter("gpt2", STAGES, "?model=gpt2-large")
    arrive(page, "gpt2-large")
    assert where(page) == ("gpt2-large", STAGES)
    assert "published" in page.locator(".admonition.note").text_content()
    page = chapter("gpt2-large", STAGES, "?model=gpt2")
    arrive(page, "gpt2")
    assert where(page) == ("gpt2", STAGES)


def test_a_move_that_the_browser_dropped_is_asked_for_once_more(chapter):
    page = chapter("gpt2", STAGES)
    dropped = []

    def drop_the_first(route):
        if dropped:
            return route.continue_()
        dropped.append(route.request.url)
        return route.abort("aborted")

    page.route("**/gpt2-medium/*.html*", drop_the_first)
    page.goto(page.url.split("?")[0] + "?model=gpt2-medium")
    arrive(page, "gpt2-medium")
    assert where(page) == ("gpt2-medium", STAGES) and len(dropped) == 1


def test_the_page_of_another_model_stays_where_another_is_remembered(chapter, book):
    page = chapter("gpt2", STAGES)
    choose(page, "gpt2-medium")
    page.goto((book / "runs" / "gpt2-large" / f"{STAGES}.html").as_uri())
    assert where(page) == ("gpt2-large", STAGES)


def test_going_back_brings_the_model_back(chapter):
    page = chapter("gpt2", RETRIEVAL)
    choose(page, "gpt2-medium")
    page.go_back()
    assert where(page) == ("gpt2", RETRIEVAL)
    page.go_forward()
    assert where(page) == ("gpt2-medium", RETRIEVAL)
    page.go_back()
    click(page, "a.left-prev")
    assert where(page) == ("gpt2", STAGES)


@pytest.mark.parametrize("name", ["none-such", "<b>x</b>", "%", "gpt2-large", "__proto__"])
def test_a_model_without_the_chapter_is_named_in_one_line(chapter, name):
    page = chapter("gpt2", RETRIEVAL, f"?model={name.replace('%', '%25')}")
    assert where(page) == ("gpt2", RETRIEVAL)
    said = page.get_by_role("status").text_content()
    assert said == f"There are no results of this chapter on {name}. Shown: gpt2."
    choose(page, "gpt2-medium")
    assert where(page) == ("gpt2-medium", RETRIEVAL)
    assert page.get_by_role("status").count() == 0 and page.trouble == []


def test_models_without_the_chapter_cannot_be_chosen(chapter):
    page = chapter("gpt2-medium", ZERO_SHOT)
    options = switch(page).locator("option").all()
    assert [(one.text_content(), one.is_disabled()) for one in options] == [
        ("gpt2 (not this chapter)", True),
        ("gpt2-medium", False),
        ("gpt2-large (not this chapter)", True),
    ]


@pytest.mark.parametrize(
    ("mark", "shown"),
    [
        ("fig-second-01", "fig-second-01-gpt2-medium"),
        ("another-section", "another-section"),
        ("fig-second-01-gpt2-large", "fig-second-01-gpt2-medium"),
        ("equation-eq-01", "equation-eq-01-gpt2-medium"),
    ],
)
def test_anchors_lead_to_their_namesakes(chapter, mark, shown):
    page = chapter("gpt2", STAGES, f"?model=gpt2-medium#{mark}")
    arrive(page, "gpt2-medium")
    where(page)
    page.wait_for_function("scrollY > 0")
    assert urlsplit(page.url).fragment == shown and page.trouble == []


@pytest.mark.parametrize("mark", ["no-such-place", "%E0%A4%A", "%"])
def test_an_anchor_that_is_nowhere_breaks_nothing(chapter, mark):
    page = chapter("gpt2", STAGES, f"?model=gpt2-medium#{mark}")
    arrive(page, "gpt2-medium")
    assert where(page) == ("gpt2-medium", STAGES) and page.trouble == []


def test_the_section_that_is_read_is_kept(chapter):
    page = chapter("gpt2", STAGES)
    page.locator("#another-section").scroll_into_view_if_needed()
    page.evaluate("document.getElementById('another-section').scrollIntoView()")
    choose(page, "gpt2-medium")
    where(page)
    assert urlsplit(page.url).fragment == "another-section"
    page.wait_for_function("scrollY > 200 && document.activeElement.tagName === 'SELECT'")
    top = page.evaluate("document.getElementById('another-section').getBoundingClientRect().top")
    assert 0 <= top < 200


def test_it_works_where_nothing_may_be_stored(chapter, opened, book):
    page = chapter("gpt2", STAGES)
    page.context.add_init_script(BLOCKED)
    page.reload()
    choose(page, "gpt2-medium")
    assert where(page) == ("gpt2-medium", STAGES)
    click(page, "a.right-next")
    assert where(page) == ("gpt2-medium", RETRIEVAL)
    page.goto((book / "runs" / "gpt2" / f"{STAGES}.html").as_uri())
    assert where(page) == ("gpt2", STAGES) and page.trouble == []


def test_by_keyboard(chapter):
    page = chapter("gpt2", STAGES)
    where(page)
    switch(page).focus()
    for model in ("gpt2-medium", "gpt2-large"):
        page.wait_for_function("document.activeElement.tagName === 'SELECT'")
        page.keyboard.press("ArrowDown")
        arrive(page, model)
        assert where(page) == (model, STAGES)


@pytest.mark.parametrize(("width", "scheme"), [(1300, "light"), (1300, "dark"), (360, "dark")])
def test_it_can_be_read_and_fits(chapter, width, scheme):
    page = chapter("gpt2-medium", STAGES, width=width, scheme=scheme)
    where(page)
    assert switch(page).is_visible() and not page.locator(".ov-model").is_visible()
    root = "document.documentElement"
    assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth")
    box = switch(page).bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width and box["height"] >= 24
    assert min(page.evaluate(BRIGHTNESS, ".ov-switch, .ov-switch select")) >= 4.5


def test_paper_and_browsers_without_javascript_name_the_model(chapter, browser, book):
    page = chapter("gpt2-medium", STAGES)
    where(page)
    page.emulate_media(media="print")
    assert page.locator(".ov-model").inner_text().strip() == "Model: gpt2-medium."
    assert not switch(page).is_visible()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((book / "runs" / "gpt2" / f"{STAGES}.html").as_uri() + "?model=gpt2-medium")
    line = page.locator(".ov-model")
    assert line.is_visible() and "Model: gpt2." in line.inner_text()
    line.get_by_text("gpt2-large").click()
    assert "/gpt2-large/" in page.url
    context.close()
