"""The README's picture can be drawn, and what it shows is what the README says."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("mlxtend")

from benchmarks import picture  # noqa: E402

README = (picture.FIGURES.parents[1] / "README.md").read_text()


@pytest.mark.parametrize("page", picture.PAGES)
def test_it_is_drawn_and_shown(page, tmp_path):
    shape = len(picture.FACTORS), 8
    arm = {"loss": np.ones(shape), "rate": np.ones(shape), "accuracy": np.ones(3)}
    figure = picture.draw({"loop": arm, "constant": arm}, page)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "learning rate",
        "training loss",
    ]
    figure.savefig(tmp_path / "picture.png")
    assert (picture.FIGURES / f"first_screen-{page}.png").is_file()
    assert f"docs/figures/first_screen-{page}.png" in README


@pytest.mark.slow
def test_the_rates_meet():
    found = picture.runs()
    last = found["loop"]["rate"][:, -1]
    assert last.max() < 3 * last.min()  # of three that were 10,000 times apart
    assert found["loop"]["accuracy"].min() > 0.9
