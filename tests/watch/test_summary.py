"""A run in a line, a table, a notebook, and a map of what was frozen."""

import io
import re

import numpy as np
import pytest

import adaptive_optax as ao

RUN = {
    "loss": np.array([4.0, np.nan, 0.5]),
    "learning_rate": np.full(3, 1e-3),
    "momentum": np.full(3, 0.9),
    "skipped": np.array([0, 1, 2]),
}


def test_a_line():
    told = repr(ao.History.from_stacked(RUN))
    assert told == "History(3 steps, loss 4 -> 0.5, learning_rate 0.001 -> 0.001)"
    assert repr(ao.History()) == "History(0 steps)"


def test_two_optimizers_of_one_state():
    parts = {f"{of}/{key}": x for of in ("slow", "fast") for key, x in RUN.items()}
    history = ao.History.from_stacked(parts)
    assert repr(history).startswith("History(3 steps, fast/loss 4 -> 0.5, slow/loss 4")
    assert "fast/skipped 2" in history._repr_html_()


def test_a_table():
    rich = pytest.importorskip("rich.console")
    console = rich.Console(width=80, record=True, file=io.StringIO())
    console.print(ao.History.from_stacked(RUN))
    told = console.export_text()
    assert "learning_rate" in told and "skipped 2" in told and "momentum" not in told


def test_a_notebook_shows_numbers_and_a_picture():
    pytest.importorskip("matplotlib")
    page = ao.History.from_stacked(RUN)._repr_html_()
    plain = re.sub(' style="[^"]*"', "", page)
    assert '<th scope="row">loss</th><td>4</td><td>0.5</td>' in plain
    assert "skipped 2" in page
    assert 'src="data:image/png;base64,' in page and 'alt="History(3 steps' in page
    assert "<img" not in ao.History()._repr_html_()


class TestFreezing:
    masks = [
        {"body": np.array([i > 0, i > 1]), "head": np.array(False)} for i in range(3)
    ]

    def names(self, figure):
        return [text.get_text() for text in figure.axes[0].get_yticklabels()]

    @pytest.fixture(autouse=True)
    def matplotlib(self):
        pytest.importorskip("matplotlib")

    def test_a_list_and_a_stack_are_the_same_picture(self, tmp_path):
        stacked = {
            "body": np.stack([m["body"] for m in self.masks]),
            "head": np.zeros(3, bool),
        }
        one = ao.plot_freezing(self.masks, path=tmp_path / "freezing.png")
        other = ao.plot_freezing(stacked, dark=True, title="a run")
        assert self.names(one) == self.names(other) == ["body/0", "body/1", "head"]
        rows = one.axes[0].images[0].get_array()
        np.testing.assert_array_equal(rows, [[0, 1, 1], [0, 0, 1], [0, 0, 0]])
        assert one._repr_png_()[:4] == b"\x89PNG"

    def test_a_history(self):
        history = ao.History()
        for mask in self.masks:
            history.append({"loss": 1.0}, frozen_mask=mask["body"])
        assert self.names(ao.plot_freezing(history)) == ["layer/0", "layer/1"]

    @pytest.mark.parametrize("nothing", [[], {}, {"w": np.zeros((0,), bool)}])
    def test_nothing_to_draw(self, nothing):
        with pytest.raises(ValueError, match=r"masks.append\(frozen_mask"):
            ao.plot_freezing(nothing)

    def test_what_is_no_mask(self):
        with pytest.raises(
            TypeError, match="boolean, got float64 at 'w'; try masks.ap"
        ):
            ao.plot_freezing([{"w": 0.5}])

    def test_a_history_without_masks(self):
        with pytest.raises(ValueError, match="has no `frozen_mask`; collect it"):
            ao.plot_freezing(ao.History.from_stacked({"loss": np.ones(3)}))
