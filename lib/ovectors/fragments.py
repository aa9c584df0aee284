"""Pieces of Markdown that hand-written pages include: made from code, results and the catalogue.

verdicts.md         every verdict, and how many are which
on_which_model.md   what kind of model the verdicts are on
findings.md         claim cards, and each chapter's findings, folded
journey.md          one prompt's way through the layers
rules.md            the rules of the verdicts
not_run.md          what has results and what has none
explorer_data.md    of which models the explorer has data
costs.md            what a sweep costs, from the benchmark
noise.md            how far right answers are apart, from its measurement
false_positives.md  how often intervals lie above 0 by chance, from its simulation
measured_costs.md   time and memory of every run
fits.md             which models fit which machines
chapter_needs.md    what chapters hold beside the weights
plan_bloom.md       what the largest model of the paper would take
published.md        published results beside those of the runs here
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovectors import comparison, made, paths, runs, studies
from ovectors.catalogue import catalogue
from ovectors.claims import LEAST_ARGUMENTS, LEAST_ITEMS, Claim
from ovectors.explorer import files as explorer
from ovectors.landing import cards, journey
from ovectors.landing.cards import Card
from ovectors.landing.leading import STAGES_CHAPTER, leading_model
from ovectors.notebooks import read_notebook
from ovectors.prose import fits, plan_bloom
from ovectors.prose.common import quantised_sentence
from ovectors.prose.costs import costs
from ovectors.prose.false_positives import false_positives
from ovectors.prose.front import claim_name
from ovectors.prose.noise import noise
from ovectors.prose.published import published
from ovectors.results import CLAIMS, load_json, load_table, read_manifest
from ovectors.splits import DEVELOPMENT_SHARE

if TYPE_CHECKING:
    from ovectors.pages import Page

EXTRA = "_extra"  # what it holds is copied to the root of the book: `html_extra_path`
EXAMPLES = "examples"  # chapter 1's table of single items
QUOTED = "What each chapter found, in its own words:\n"
ROOT_FILES = {"CHANGELOG.md": "changelog.md", "CITATION.cff": "CITATION.cff"}
"""Files of the project's root that are shown as pages or in them."""


def write(folder: Path, pages: Sequence[Page]) -> None:
    """Write every piece into the book's source, beside the pages that include it."""
    lead = leading_model(pages)
    front = [page for page in pages if page.place.model in (lead, runs.ALL)]
    dealt = claim_cards(front)
    asked = {card.claim.id for card in dealt}
    # A claim that the leading model was not asked, a fork's say, is shown on the reference model.
    further = claim_cards(page for page in pages if page.is_reference and page not in front)
    dealt += [card for card in further if card.claim.id not in asked]
    others = claim_cards(page for page in pages if page not in front)
    counted = cards.count_sentence(dealt)
    pieces = {
        "explorer_data": explorer.put(folder / EXTRA),
        "verdicts": f"**What was found.** {counted}\n\n{cards.verdict_list(dealt, others)}",
        "on_which_model": f"**On which model.** {cards.model_sentence(dealt, others)}",
        "findings": "\n".join(
            [quantised_sentence(lead), "", cards.deck(dealt), QUOTED, *quoted_findings(front)]
        ),
        "journey": journey_markdown(front),
        "rules": rules_markdown(),
        "not_run": not_run_markdown(),
        "costs": costs(),
        "noise": noise(),
        "false_positives": false_positives(),
        "measured_costs": fits.measured_costs(),
        "fits": fits.fits_table(),
        "chapter_needs": fits.chapter_needs(),
        "plan_bloom": plan_bloom.plan(),
        "published": published(),
    }
    for name, text in pieces.items():
        (folder / f"{name}.md").write_text(text.strip() + "\n", "utf-8")
    for name, shown_as in ROOT_FILES.items():
        if (paths.ROOT / name).is_file():
            shutil.copyfile(paths.ROOT / name, folder / shown_as)


def substitutions() -> dict[str, str]:
    """Constants of the code that pages quote as `{{ name }}`."""
    return {
        "development_share": f"{DEVELOPMENT_SHARE:.0%}",
        "least_items": str(LEAST_ITEMS),
        "least_arguments": str(LEAST_ARGUMENTS),
    }


def claim_cards(pages: Iterable[Page]) -> list[Card]:
    """A card for each verdict on the pages' models, in the order of the rules."""
    found = []
    for page in pages:
        manifest = read_manifest(page.place.results)
        files = page.published.files if page.published else [one.file for one in manifest.files]
        for name in (one for one in files if one.startswith(f"{CLAIMS}/")):
            claim = Claim.model_validate_json((page.place.saved / name).read_bytes())
            told = {"provenance": manifest.provenance, "command": made.command(manifest)}
            found.append(Card(claim=claim, page=f"{page.document}.html", **told))
    order = {claim: place for place, claim in enumerate(studies.all_rules())}
    return sorted(found, key=lambda card: order.get(card.claim.id, len(order)))


def quoted_findings(pages: Iterable[Page]) -> list[str]:
    """What each chapter found, in its own words, folded chapter by chapter.

    A chapter that wants to be quoted saves JSON called `numbers` with Markdown under `findings`.
    """
    quoted = []
    for page in sorted(pages, key=lambda page: page.place.chapter):
        folder, saved = page.place.results, read_manifest(page.place.results).files
        if any(file.name == "numbers" for file in saved):
            said = load_json(folder, "numbers").get("findings")
            where = "" if page.place.model == runs.ALL else f", on {page.model}"
            link = f"From {{doc}}`/{page.document}`."
            quoted += [_fold(_title(page) + where, f"{said}\n\n{link}")] if said else []
    return quoted or ["No chapter has been run yet.\n"]


def _title(page: Page) -> str:
    cells = read_notebook(page.place.notebook).cells
    said = next((cell.source for cell in cells if cell.cell_type == "markdown"), "")
    heading = said.lstrip().split("\n", 1)[0]
    return heading.removeprefix("# ") if heading.startswith("# ") else page.place.chapter


def _fold(summary: str, text: str) -> str:
    return f":::{{dropdown}} {summary}\n:class-container: quoted-findings\n\n{text}\n:::\n"


def journey_markdown(pages: Iterable[Page]) -> str:
    """The picture of one prompt with its caption, from what chapter 1 saved."""
    for page in pages:
        saved = read_manifest(page.place.results).files
        if page.place.chapter == STAGES_CHAPTER and any(one.name == EXAMPLES for one in saved):
            item = journey.shown_item(load_table(page.place.results, EXAMPLES))
            return f"{journey.drawing(item)}\n\n{journey.caption(item, page.model)}"
    return "Chapter 1 has not been run, so there is no picture here."


def rules_markdown() -> str:
    """The rules as a list, word for word as they judge."""
    lines = [
        f"- **{claim_name(rule.id)}** ({rule.section or 'not in the paper'}; "
        f"{{chapter}}`{rule.chapter}`). *{rule.question}* {rule.sentence}"
        for rule in studies.all_rules().values()
    ]
    return "\n".join(lines)


def not_run_markdown() -> str:
    """Which models have results here, and which of the paper's and the further ones have none."""
    whole: dict[str, set[str]] = {}
    for finding in comparison.gather():
        if finding.condition == "whole":
            whole.setdefault(finding.name, set()).add(finding.chapter)
    count = len({rule.chapter for rule in studies.all_rules().values()})
    has = [f"`{name}` ({len(found)} of {count} chapters)" for name, found in whole.items()]
    lines = [f"- **With results:** {', '.join(has) or 'none'}."]
    groups: dict[str, str] = {"paper": "Of the paper, without", "follow-up": "Others, without"}
    for group, said in groups.items():
        lacking = [f"`{one.name}`" for one in catalogue().values() if _lacks(one, group, whole)]
        lines.append(f"- **{said}:** {', '.join(lacking) or 'none'}.")
    return "\n".join(lines)


def _lacks(spec: Any, group: str, whole: dict[str, set[str]]) -> bool:
    return spec.group == group and spec.name not in whole
