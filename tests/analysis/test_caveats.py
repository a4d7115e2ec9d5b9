"""Caveats: sentences that groups share are said once, naming the groups, in a fixed order."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.caveats import Caveat, fold, trial_caveats
from analysis.groups import group_label, listed, prefixed

UNET, POOL, THIRD = ({"model.name": name} for name in ("unet", "pool", "third"))


def test_labels_read() -> None:
    assert group_label({"model.name": "unet", "model.num_filters": 8}) == "unet, num_filters = 8"
    assert group_label({"task.label_noise": 0.5, "flag": True}) == "label_noise = 0.5, flag = True"
    assert group_label({}) == ""
    assert prefixed({}, "text") == "text"
    assert prefixed(UNET, "text") == "unet: text"


def test_lists_of_labels() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a, b", "c", "d"]) == "a, b; c and d"
    assert listed([]) == ""


def test_what_is_true_of_all_groups_names_none() -> None:
    said = Caveat("One seed")
    assert fold([(UNET, said), (POOL, said)], 2) == ["One seed."]
    assert fold([(UNET, said), (POOL, said)], 3) == ["One seed (unet and pool)."]
    assert fold([({}, said)], 1) == ["One seed."]


def test_places_are_gathered_by_group() -> None:
    edge = [Caveat("At the edge", f"batch size {size}", "edges") for size in (4, 8)]
    assert fold([({}, edge[0]), ({}, edge[1])], 1) == ["At the edge: batch size 4; batch size 8."]
    found = fold([(UNET, edge[0]), (UNET, edge[1]), (POOL, edge[0])], 3)
    assert found == ["At the edge: unet (batch size 4; batch size 8); pool (batch size 4)."]


def test_order_is_by_topic_and_plain_sentences_come_last() -> None:
    found = [
        (UNET, "A sentence."),
        (UNET, Caveat("Seeds", topic="seeds")),
        (POOL, Caveat("Edges", topic="edges")),
        (POOL, Caveat("Not identified", topic="answer")),
    ]
    words = [text.split(" (")[0] for text in fold(found, 2)]
    assert words == ["Not identified", "Edges", "Seeds", "A sentence"]


def search_cells(lrs_of: dict[int, list[float]], compared: dict[int, list[float]]) -> pd.DataFrame:
    """Steps fall to the middle one of the compared lrs; 8 seeds there, one elsewhere."""
    rows = [
        {"batch_size": size, "lr": lr, "compared": lr in compared[size],
         "n_seeds": 8 if lr in compared[size] else 1, "n_diverged": 0,
         "steps": 100 * (1 + abs(np.log(lr / compared[size][1])))}
        for size, lrs in lrs_of.items() for lr in lrs
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_search_tunes_alike_with_other_numbers_of_lrs() -> None:
    near = {1: [0.1, 0.11, 0.121], 8: [0.2, 0.22, 0.242]}
    cells = search_cells({1: [0.05, *near[1]], 8: [0.05, 0.1, *near[8], 0.4]}, near)
    assert trial_caveats(cells) == []
    coarse = near | {8: [0.1, 0.2, 0.4]}
    (caveat, wide) = trial_caveats(search_cells({1: near[1], 8: [0.05, *coarse[8]]}, coarse))
    assert "not tuned equally" in caveat.sentence
    assert "a factor 2.00 apart" in wide.sentence
