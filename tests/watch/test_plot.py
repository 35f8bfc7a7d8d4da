import sys

import numpy as np
import pytest

from adaptive_optax import Event, EventKind
from adaptive_optax.watch.history import History
from adaptive_optax.watch.plot import plot_history

pytest.importorskip("matplotlib")


def run(n=120, **columns):
    steps = np.arange(1, n + 1)
    return {
        "steps": steps,
        "loss": 2.0 / steps,
        "learning_rate": np.full(n, 1e-3),
        "momentum": np.linspace(0.9, 0.95, n),
        "sigma": np.linspace(0.0, 1e-3, n),
        "frozen_fraction": np.linspace(0.0, 0.5, n),
        **columns,
    }


def panels(figure):
    return [axes.get_ylabel() for axes in figure.axes]


def test_every_quantity_has_a_panel():
    weights = np.full((120, 3), 1 / 3)
    figure = plot_history(
        History.from_stacked(run(weights=weights)), labels=["trend", "plateau", "mine"]
    )
    assert panels(figure) == [
        "loss",
        "rate α",
        "momentum μ",
        "dither σ",
        "frozen (%)",
        "weight",
    ]
    assert figure.axes[-1].get_xlabel() == "step"
    legend = figure.axes[-1].get_legend().get_texts()
    assert [text.get_text() for text in legend] == ["trend", "plateau", "mine"]
    frozen = figure.axes[4].lines[0].get_ydata()
    assert frozen[-1] == pytest.approx(50.0)


def test_gains_that_rest_have_no_panel():
    still = {"momentum": np.full(120, 0.9), "sigma": np.zeros(120)}
    figure = plot_history(run(**still))
    assert panels(figure) == ["loss", "rate α", "frozen (%)"]


def test_the_base_rate_the_validation_and_the_title_are_drawn():
    seen = np.full(120, np.nan)
    seen[59::60] = 0.5
    columns = {"lr_scale": np.full(120, 2.0), "validation_loss": seen}
    figure = plot_history(run(**columns), title="a run")
    rate, base = (line.get_ydata() for line in figure.axes[1].lines)
    np.testing.assert_allclose(base, rate / 2)
    (dots,) = [x for x in figure.axes[0].lines if x.get_marker() == "o"]
    assert list(dots.get_xdata()) == [60, 120]
    assert figure.get_suptitle() == "a run"


def test_a_negative_validation_loss_takes_the_log_axis_away():
    figure = plot_history(run(validation_loss=np.linspace(1.0, -1.0, 120)))
    assert figure.axes[0].get_yscale() == "linear"


def test_a_cut_of_the_rate_is_marked():
    scale = np.where(np.arange(120) < 50, 3.0, 1.0)
    figure = plot_history(run(lr_scale=scale, learning_rate=1e-3 * scale))
    (mark,) = [x for x in figure.axes[1].lines if x.get_marker() == "v"]
    assert list(mark.get_xdata()) == [51]


def test_a_skipped_batch_is_marked():
    figure = plot_history(run(skipped=(np.arange(120) >= 40) * 1))
    crosses = [x for x in figure.axes[0].lines if x.get_marker() == "x"]
    assert [list(x.get_xdata()) for x in crosses] == [[41], []]


def test_only_what_is_there():
    figure = plot_history({"loss": np.array([3.0, 2.0, 1.0])})
    assert panels(figure) == ["loss"]
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xdata(), [1, 2, 3])


@pytest.mark.parametrize(
    ("loss", "scale"), [([3.0, 2.0, 1.0], "log"), ([1.0, 0.0, -1.0], "linear")]
)
def test_log_scale_only_where_the_loss_allows_it(loss, scale):
    assert plot_history({"loss": np.array(loss)}).axes[0].get_yscale() == scale


def test_one_run_that_falls_below_zero_keeps_the_axis_of_all_linear():
    losses = {"above": np.array([3.0, 2.0]), "below": np.array([1.0, -1.0])}
    figure = plot_history({name: {"loss": loss} for name, loss in losses.items()})
    assert figure.axes[0].get_yscale() == "linear"


def test_a_first_step_that_is_not_finite_is_marked():
    figure = plot_history(run(nonfinite_gradients=np.ones(120)))
    crosses = [x for x in figure.axes[0].lines if x.get_marker() == "x"]
    assert [list(x.get_xdata()) for x in crosses] == [[1], []]


def test_runs_over_each_other():
    constant = {"loss": np.ones(120)}
    figure = plot_history(
        {"closed loop": History.from_stacked(run()), "constant": constant}
    )
    texts = figure.axes[0].get_legend().get_texts()
    assert [text.get_text() for text in texts] == ["closed loop", "constant"]
    bold = [line for line in figure.axes[0].lines if line.get_linewidth() > 1]
    assert len({line.get_color() for line in bold}) == 2


def test_restores_and_skips_are_marked():
    n = np.arange(120)
    columns = {"restores": (n >= 30) * 1, "nonfinite_values": (n >= 60) + 0}
    figure = plot_history(run(**columns))
    for axes in figure.axes:
        dashed = [line for line in axes.lines if list(line.get_xdata()) == [31, 31]]
        assert dashed, axes.get_ylabel()
    (cross,) = [
        x for x in figure.axes[0].lines if x.get_marker() == "x" and len(x.get_xdata())
    ]
    assert list(cross.get_xdata()) == [61]
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["skipped or not finite", "restored"]


def test_numbers_count_the_lines_of_explain():
    history = History.from_stacked(run())
    for step, kind in ((3, 1), (4, 8), (60, 13), (61, 36)):
        history._log.events.append(
            Event(step, EventKind(kind), 1.0, 1.0, 0.1, 0.1, step, 1)
        )
    marks = plot_history(history).axes[0].texts
    # The answer in step 4 is in the line of step 3; 60 and 61 are too near to tell.
    assert [(mark.get_text(), mark.xy[0]) for mark in marks] == [("1", 3), ("2-3", 60)]


def test_an_event_before_the_first_step_of_a_history_has_no_number():
    history = History.from_stacked(run(steps=np.arange(301, 421)))
    for step in (3, 350):
        history._log.events.append(
            Event(step, EventKind.CLIMB, 1.0, 1.0, 0.1, 0.1, step, 1)
        )
    (mark,) = plot_history(history).axes[0].texts
    assert (mark.get_text(), mark.xy[0]) == ("2", 350)


def test_a_spike_and_a_nan_do_not_hide_the_rest():
    loss = 2.0 / np.arange(1, 121)
    loss[50], loss[60] = 1e6, np.nan
    figure = plot_history(run(loss=loss))
    smooth = figure.axes[0].lines[1].get_ydata()
    assert np.isfinite(smooth).all()
    assert smooth[-1] < 0.1


def test_saved_and_headless(tmp_path):
    had_pyplot = "matplotlib.pyplot" in sys.modules
    plot_history(run(), path=tmp_path / "loop.png")
    plot_history(run(), path=tmp_path / "loop.svg")
    assert (tmp_path / "loop.png").read_bytes()[:4] == b"\x89PNG"
    assert b"<svg" in (tmp_path / "loop.svg").read_bytes()
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot


@pytest.mark.parametrize("empty", [History(), {}, {"run": History()}, {"loss": []}])
def test_nothing_to_draw(empty):
    with pytest.raises(ValueError, match=r"history.append\(opt_state\)"):
        plot_history(empty)


def test_a_table_of_something_else_is_no_empty_page():
    table = {"epoch": np.arange(3), "momentum": np.full(3, 0.9)}
    with pytest.raises(ValueError, match=r"got only epoch, momentum; try history.app"):
        plot_history(table)
    with pytest.raises(ValueError, match=r"got no finite number in loss; try history"):
        plot_history({"loss": np.full(3, np.nan), "epoch": np.arange(3)})
    with pytest.raises(ValueError, match=r"population.*lambda x: x\[:, 0\]"):
        plot_history({"loss": np.ones((60, 2))})
    with pytest.raises(TypeError, match="must be a History, got int; collect one"):
        plot_history(3)


def test_a_column_called_weights_is_no_blend():
    figure = plot_history({"loss": np.ones(3), "weights": np.arange(3)})
    assert panels(figure) == ["loss"]


def test_a_validation_loss_alone_is_drawn():
    figure = plot_history({"validation_loss": np.array([np.nan, 2.0, 1.0])})
    assert [list(line.get_xdata()) for line in figure.axes[0].lines] == [[2, 3]]


def test_a_reward_has_a_panel():
    figure = plot_history(run(n=60, reward=np.linspace(0.0, 1.0, 60)))
    assert panels(figure)[:3] == ["loss", "reward", "rate α"]
    thin, bold = figure.axes[1].lines
    assert thin.get_linewidth() < 1 < bold.get_linewidth()


def test_two_optimizers_of_one_state_are_drawn_over_each_other():
    parts = {
        f"{of}/{key}": column
        for of in ("slow", "fast")
        for key, column in run().items()
    }
    history = History.from_stacked(parts | {"validation_loss": np.ones(120)})
    texts = plot_history(history).axes[0].get_legend().get_texts()
    names = [text.get_text() for text in texts]
    assert names == ["fast", "fast validation", "slow", "slow validation"]


def test_labels_must_fit():
    with pytest.raises(ValueError, match="must name the 2 blended rules.*'trend'"):
        plot_history(run(weights=np.full((120, 2), 0.5)), labels=["trend"])
