"""All groups in one picture: where the hyperbola holds, they lie on one curve."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.lines import Line2D

from analysis import StudyResult, analyse_steps
from analysis.groups import select
from analysis.topics.all_groups import one_curve

PLANTED = {"small": (40.0, 3360.0), "large": (500.0, 8e5), "straight": (1e-3, 1e5)}


def planted(column: str, names: dict[str, float | str]) -> StudyResult:
    """S = S_min + E_min/B, exactly; "straight" does not bend where it is sampled."""
    sizes = 4 ** np.arange(1, 8)
    rows = [
        {column: shown, "batch_size": size, "steps": PLANTED[name][0] + PLANTED[name][1] / size}
        for name, shown in names.items()
        for size in sizes
    ]
    return analyse_steps(pd.DataFrame(rows), n_bootstrap=5)


@pytest.fixture(scope="module")
def result() -> StudyResult:
    return planted("net.name", {name: name for name in PLANTED})


def test_what_follows_the_hyperbola_lies_on_the_curve(result: StudyResult) -> None:
    table = result.frames["one_curve"]
    for name in ("small", "large"):
        min_steps, min_examples = PLANTED[name]
        rows = select(table, {"params.net.name": name})
        relative = rows["batch_size"] * min_steps / min_examples
        np.testing.assert_allclose(rows["relative_batch_size"], relative, rtol=1e-3)
        np.testing.assert_allclose(rows["relative_examples"], 1 + relative, rtol=1e-3)
        np.testing.assert_array_equal(rows["hyperbola"], 1 + rows["relative_batch_size"])
        assert rows["identified"].all()
    assert not select(table, {"params.net.name": "straight"})["identified"].any()


def test_the_figure_says_which_group_is_not_identified(result: StudyResult) -> None:
    drawings = {drawing.name: drawing for drawing in result.drawings()}
    drawing = drawings["one_curve_of_all"]
    pd.testing.assert_frame_equal(drawing.table, one_curve(result))
    handles, labels = drawing.figure.axes[0].get_legend_handles_labels()
    lines = [handle for handle in handles[1:] if isinstance(handle, Line2D)]
    assert labels[1:] == ["large", "small", "straight (not identified)"]
    assert [line.get_alpha() is not None for line in lines] == [False, False, True]  # pale
    assert len({str(line.get_marker()) for line in lines}) == 3  # grey print


def test_model_sizes_alone_are_compared_elsewhere() -> None:
    sizes = planted("model_size", {"small": 10.0, "large": 1000.0})
    assert len(sizes.groups) == 2
    assert "one_curve" not in sizes.frames
    assert "one_curve_of_all" not in {drawing.name for drawing in sizes.drawings()}
