"""Tables of an ablation with outcomes that are given, and of stages with given ranks."""

import pandas as pd

STAGED, DIRECT = ([1, 2, 3], [9, 1, 1]), ([9, 9, 9], [2, 1, 1])


def outcomes(relation, form, before, after, *, items=None, condition="zero", draw=0):
    """Made-up results of 12 layers: correct before, and after.

    After the top four are changed, or by how many are: a list for each number.
    """
    made = []
    changed = after if isinstance(after, dict) else {4: after}
    runs = [("none", 0, before), *((condition, count, one) for count, one in changed.items())]
    for name, removed, correct in runs:
        for item, right in zip(items or range(len(correct)), correct, strict=True):
            row = {"relation": relation, "form": form, "condition": name, "removed": removed}
            row |= {"draw": draw if removed else 0, "item": item, "correct": bool(right)}
            row |= {"argument": f" a{item}"}
            made.append(row | {"n_layers": 12, "rank_true": 1.0 if right else 5.0})
    return pd.DataFrame(made)


def decoded(relation, form, items):
    """Ranks over three layers, as `stages` has them."""
    made = []
    for item, (argument, answer) in enumerate(items):
        asked = f" a{item}" if argument == answer else f" b{item}"
        for layer, (x, y) in enumerate(zip(argument, answer, strict=True)):
            row = {"relation": relation, "form": form, "item": item, "layer": layer}
            row |= {"rank_argument": float(x), "rank_answer": float(y), "answer": asked}
            made.append(row | {"argument": f" a{item}", "correct": answer[-1] == 1})
    return pd.DataFrame(made)
