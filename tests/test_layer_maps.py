"""Chapter 3's choice of layers: on development items, every pair or the promising ones."""

import pandas as pd

from ovectors.colored_objects import colours
from ovectors.experiments.shared.layer_maps import layer_map
from ovectors.experiments.shared.layers import Layers, choose_layers
from ovectors.experiments.shared.sources import patterns


def test_layers_are_chosen_on_development_items_only(mini):
    table = layer_map(mini, "world_capitals", n_sources=2, n_items=60)
    development, report = patterns(mini, "world_capitals", n_items=60)
    arguments = {prompt.argument for prompt in development.prompts}
    assert set(table["argument"]) <= arguments
    assert not arguments & {prompt.argument for prompt in report.prompts}
    assert not (table["argument"].str.strip() == table["vector"]).any()
    pairs = set(zip(table["source_layer"], table["start_layer"], strict=True))
    every = range(mini.n_layers)
    late = int(0.75 * mini.n_layers)
    assert {(layer, layer) for layer in every} | {(layer, late) for layer in every} <= pairs
    best = choose_layers(table)
    assert {(best.source, layer) for layer in every} <= pairs


def test_pairs_around_the_best_one_are_tried_where_layers_were_left_out(mini):
    table = layer_map(mini, "uppercase", n_sources=1, n_items=30, max_layers=4, max_items=4)
    grid = {0, 4, 7, 11}
    on_grid = table[table["on_grid"]]
    assert set(on_grid["source_layer"]) | set(on_grid["start_layer"]) == grid
    around = table[~table["on_grid"]]
    assert len(around)
    best = choose_layers(on_grid)
    for column, layer in (("source_layer", best.source), ("start_layer", best.start)):
        below = max((one for one in grid if one < layer), default=-1)
        above = min((one for one in grid if one > layer), default=12)
        assert around[column].between(below + 1, above - 1).all()


def test_the_best_pair_of_layers_is_chosen():
    rows = [(2, 2, 4.0), (2, 2, 2.0), (3, 3, 1.0), (3, 3, 2.0), (3, 1, 1.0), (3, 1, 8.0)]
    table = pd.DataFrame(rows, columns=["source_layer", "start_layer", "rank_answer"])
    table["item"] = [0, 1] * 3
    table = table.assign(rank_before=5.0)
    assert choose_layers(table) == Layers(source=3, start=3)
    # Means over 2, 2: 3/8; over 3, 1: 9/16. From layer 3 on only 3, 3 is left, from 1.5 not 3, 1.
    rest = table[table["start_layer"] != 3]
    assert choose_layers(rest) == Layers(source=3, start=1)
    assert choose_layers(rest, least_start=1.5) == Layers(source=2, start=2)


def test_layers_are_chosen_with_the_vectors_of_the_task(mini):
    """Words to be written large, with the vectors of coloured objects: one a colour."""
    few = {"n_sources": 2, "max_items": 3, "max_layers": 3}
    table = layer_map(mini, "uppercase", group="word", vectors_from="colored_objects", **few)
    assert set(table["vector"]) <= set(colours()) and table["vector"].nunique() == 2
    assert not {one.strip() for one in table["argument"]} & set(colours())


def test_a_map_of_every_pair_can_be_thinned(mini):
    table = layer_map(
        mini, "uppercase", n_sources=1, n_items=30, every_pair=True, max_layers=3, max_items=4
    )
    even = table[table["on_grid"]]
    assert len(even.groupby(["source_layer", "start_layer"])) == 9
    assert set(even["source_layer"]) == set(even["start_layer"]) == {0, 6, 11}
    assert table["item"].nunique() <= 4
