"""The words name the true cause, of healthy runs and of sick ones."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.watch import recorded
from tests.watch.recorded import RATE, STEPS

# A run: words that name the cause, and words that would blame something else.
TRUE = {
    "right": (
        ["The base rate of 0.12 was about right", "the start was passed"],
        ["thrown away", "skipped", "not finite", "diverged", "Next time"],
    ),
    "too low": (
        ["the rate climbed", "0.0012 was about", "times too low", "Next time try"],
        ["thrown away", "skipped", "not finite", "diverged"],
    ),
    "too high": (
        ["start was thrown away: the loss rose to", "too high", "0.12 times"],
        ["skipped", "not finite", "too low"],
    ),
    "without noise": (
        ["the rate climbed", "so the rate was at fault and was cut"],
        ["look at the labels", "not finite", "thrown away"],
    ),
    "reward": (
        ["the reward went from", "The base rate of 0.12 was about right"],
        ["the loss", "thrown away", "skipped", "not finite"],
    ),
    "random labels": (
        [
            "steps 200-221: skipped 21 batches whose loss was far above",
            "the data were at fault and the rate stayed",
            "look at the labels and the inputs",
            "step 222: no more batches may be skipped, so these are taken for the new",
        ],
        ["too high", "too low", "not finite", "diverged"],
    ),
    "bursts of NaN": (
        ["5 gradients were not finite (steps 120-121 and 200-202)", "overflow"],
        ["too high", "too low", "look at the labels", "diverged"],
    ),
    "NaN for a loss": (
        ["No loss was ever finite (300 of 300", "no gain has moved"],
        ["too high", "too low", "skipped", "about right"],
    ),
    "plateau": (
        ["That is a plateau", "look at the model, the labels and the loss function"],
        ["too low", "skipped", "not finite", "Next time"],
    ),
    "a rate that jumps": (
        [
            "follows a schedule",
            "it went back at steps 156, 163 and 170",
            "so the rate was at fault and was cut at steps 164 and 171",
        ],
        ["look at the labels", "not finite", "too low"],
    ),
    "units die early": (
        ["step 14: the start was thrown away", "Units died at step 14"],
        ["skipped", "not finite", "too low"],
    ),
    "a lost parameter": (
        ["1 parameter has entries that are not finite", "ao.repair(params, state)"],
        ["too high", "too low", "diverged"],
    ),
}
TRUE["too high"][0][2] = "Next time try"


@pytest.mark.parametrize("name", TRUE)
def test_the_words_name_the_true_cause(name):
    _, state, history = recorded.recorded(name)
    said, others = TRUE[name]
    told = ao.explain(history)
    for words in said:
        assert words in told
    for words in others:
        assert words not in told
    # The ring alone, with the last numbers, comes to the same.
    if name not in ("plateau", "reward"):  # these need the losses of the whole run
        for words in said:
            assert words in ao.explain(state)


def test_the_rate_that_is_named_is_near_the_one_that_was_right():
    for name in ("too low", "too high"):
        advice = ao.explain(recorded.recorded(name)[2]).split("learning_rate=")[-1]
        assert RATE / 2 < float(advice.rstrip(".")) < 2 * RATE


def test_each_line_has_its_step_and_the_rates_before_and_after():
    (line, *_) = ao.explain(recorded.recorded("too high")[2]).splitlines()
    assert line.startswith("step ") and "; learning rate 3.6 -> " in line
    assert "the loss was normal again, so the rate was too high" in line


class TestNothingToTell:
    def test_before_the_first_step(self):
        state = ao.adaptive_sgd(0.1).init(jnp.ones(2))
        assert ao.explain(state) == "No step has been taken yet."

    def test_an_empty_history(self):
        assert "history.append(state)" in ao.explain(ao.History())

    def test_a_loss_that_was_never_given(self):
        tx, params = ao.adaptive_sgd(0.1), jnp.ones(2)
        _, state = jax.jit(tx.update)(params, tx.init(params), params, value=None)
        assert "No loss was ever given" in ao.explain(state)
        assert "value=loss" in ao.explain(state)

    @pytest.mark.parametrize("other", [optax.adam(0.1).init(jnp.ones(2)), None, {}])
    def test_another_state(self, other):
        with pytest.raises(ValueError, match="nothing can be explained.*snapshot"):
            ao.explain(other)

    def test_a_part_without_events(self):
        state = ao.add_dither(0.1).init(jnp.ones(2))
        with pytest.raises(ValueError, match=r"no events.*dither_count.*explain\("):
            ao.explain(state)
        with pytest.raises(ValueError, match="no events.*got loss"):
            ao.explain(ao.History.from_stacked({"loss": np.ones(3)}))

    def test_a_population(self):
        state = recorded.recorded("right")[1]
        many = jax.tree.map(lambda x: jnp.stack([x, x]), state)
        with pytest.raises(ValueError, match=r"one member.*x\[0\]"):
            ao.explain(many)

    @pytest.mark.parametrize("suffix", [".npz", ".csv"])
    def test_a_population_in_a_file(self, suffix, tmp_path):
        # It was "No step has been taken yet."
        state = recorded.recorded("right")[1]
        history = ao.History()
        history.append(jax.tree.map(lambda x: jnp.stack([x, x]), state))
        history.save(tmp_path / f"run{suffix}")
        loaded = ao.History.load(tmp_path / f"run{suffix}")
        with pytest.raises(ValueError, match=r"population; take one member's.*x\[:, 0"):
            ao.explain(loaded)

    @pytest.mark.parametrize("keys", [["event_count"], ["event_count", "lr_scale"]])
    def test_a_part_of_what_is_needed(self, keys):
        history = ao.History.from_stacked(dict.fromkeys(keys, np.ones(3)))
        with pytest.raises(
            ValueError, match="there are no events of .*got event_count"
        ):
            ao.explain(history)


def test_two_optimizers_are_explained_one_by_one():
    tx = optax.partition(
        {"slow": ao.adaptive_sgd(0.1), "fast": ao.adaptive_sgd(0.2)},
        {"w": "slow", "b": "fast"},
    )
    state = tx.init({"w": jnp.ones(2), "b": jnp.ones(2)})
    assert ao.explain(state).count("No step has been taken yet.") == 2
    assert ao.explain(state).startswith("fast:\n") or "slow:\n" in ao.explain(state)


def test_what_the_ring_has_forgotten_is_said():
    _, state, _ = recorded.recorded("right")
    count = state.events.event_count + 40
    state = state._replace(events=state.events._replace(event_count=count))
    assert "earlier events are not in the state any more" in ao.explain(state)


def test_a_history_that_begins_late_knows_no_first_loss():
    _, _, history = recorded.recorded("plateau")
    late = {key: column[100:] for key, column in history.as_dict().items()}
    told = ao.explain(ao.History.from_stacked(late))
    assert (
        told.startswith("After 300 steps the loss is about") and "That is" not in told
    )
    _, state, _ = recorded.recorded("right")
    late = ao.History()
    late.append(state)
    first = recorded.recorded("right")[2]["loss"][0]
    assert f"In 300 steps the loss went from {first:.3g} to" in ao.explain(late)


def test_all_runs_are_as_long():
    assert all(len(run.fresh) == STEPS for run in recorded.COURSES.values())
