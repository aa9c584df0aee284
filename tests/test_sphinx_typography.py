"""Signs, intervals and widths as a page shows them."""

import pytest
from docutils.core import publish_doctree

from ovectors import sphinx_typography as typography


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("-0.02 [-0.05, 0.01]", "−0.02 [−0.05,\u00a00.01]"),
        ("-0.00 [-0.00, 0.10]", "0.00 [0.00,\u00a00.10]"),
        ("-0.004", "−0.004"),
        ("scales from -8 to 8", "scales from −8 to 8"),
        ("(n = 234)", "(n\u00a0=\u00a0234)"),
        ("pages 12-16, 2026-11-24, mini-2m, gpt-j-6b, --jobs", None),
        ("[Merullo et al., 2024] and [1, 2, 3]", None),
        ("no space -> arrow", None),
    ],
)
def test_numbers_are_printed_with_signs_and_stay_together(printed, shown):
    assert typography.numbers(printed) == (shown or printed)


def test_where_there_is_no_room_an_interval_may_break():
    assert typography.numbers("-0.1 [-0.2, 0.3]", together=False) == "−0.1 [−0.2, 0.3]"


def page(columns: int) -> str:
    cells = ["-1.5 [0.1, 0.2]", "long words " * 8, *["0.5"] * (columns - 2)]
    first, *others = (f"- {cell}" for cell in cells)
    row = "\n     ".join([f"   * {first}", *others])
    said = "``scale=-1`` of ``mini-2m`` is -0.5 [0.1, 0.2] with ``ovectors run --model mini-2m``"
    return f"{said}\n\n.. list-table::\n\n{row}\n"


@pytest.mark.parametrize(("columns", "space"), [(2, "\u00a0"), (7, " ")])
def test_a_page_is_set_and_its_code_is_left_alone(columns, space):
    doctree = publish_doctree(page(columns))
    typography.set_page(doctree)
    said = doctree.astext()
    assert "scale=-1" in said and "−0.5 [0.1,\u00a00.2]" in said
    assert f"−1.5 [0.1,{space}0.2]" in said
    codes = {one.astext(): one["classes"] for one in doctree.findall(typography.nodes.literal)}
    assert typography.WHOLE in codes["mini-2m"]
    assert typography.WHOLE not in codes["ovectors run --model mini-2m"]
    long = [typography.LONG in one["classes"] for one in doctree.findall(typography.nodes.entry)]
    assert long == [False, True] + [False] * (columns - 2)
