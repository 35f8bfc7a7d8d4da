"""The benchmark of the mechanisms: its works, its runs and its intervals."""

import jax
import numpy as np
import pytest

from benchmarks.gains import arms, command, page, train, unseen, work

WORKS = {
    **work.LONGER_MEMORY,
    **work.SADDLES,
    **work.MINIBATCHES,
    **unseen.UNSEEN,
}


@pytest.mark.parametrize("name", WORKS)
def test_a_work_is_what_it_says(name):
    one = WORKS[name]()
    key = jax.random.key(0)

    def first(key):
        params = one.init(key)
        return (
            one.metric(params),
            jax.grad(one.loss)(params, key),
            one.loss(params, jax.random.key(1)),
        )

    metric, grads, loss = jax.jit(first)(key)
    assert np.isfinite(metric) and np.isfinite(loss) and metric > one.floor
    if "zero" in name:
        assert not any(np.any(np.asarray(g)) for g in jax.tree.leaves(grads))


def test_finals_are_ratios_of_the_same_runs():
    one = work.bowl(10.0, 30)
    found = train.finals(one, "sgd", {}, momenta=(0.0, 0.9), seeds=3)
    again = train.finals(one, "sgd", {"momentum_rule": None}, momenta=(0.9,), seeds=3)
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found[1], again[0], rtol=1e-5)


def test_the_interval_is_of_the_mean_over_seeds():
    logs = np.log(np.array([[0.5, 0.5, 0.5], [2.0, 2.0, 2.0]]))
    same = page.ratio(logs)
    assert (same.value, same.low, same.high) == pytest.approx((1.0, 1.0, 1.0))
    apart = page.ratio(np.log(np.array([0.5, 1.0, 2.0])))
    assert apart.low < 1.0 < apart.high


def test_every_study_has_a_run_without():
    for study in arms.STUDIES:
        assert study.arms[arms.WITHOUT] == {}
        assert len(study.arms) > 1
        assert study.bases[0] == arms.WITHOUT and set(study.bases) <= set(study.arms)


def test_a_table_takes_the_place_of_its_own_kind_and_of_no_other():
    stored = "# Page\n\nHead.\n\n## One\n\nold\n\n## Two\n\nkept\n"
    new = page.with_sections(stored, ["## One\n\nnew", "## Three\n\nadded"])
    assert new == (
        "# Page\n\nHead.\n\n## One\n\nnew\n\n## Two\n\nkept\n\n## Three\n\nadded\n"
    )
    assert page.with_sections(new, []) == new
    with pytest.raises(ValueError, match="--study"):
        command.gains(write=True)


def test_a_study_alone_names_its_law_and_holds_like_over_like():
    study = next(one for one in arms.STUDIES if len(one.bases) > 1)
    ends = {
        (name, arm): np.full((1, 3), {"auto": 0.5, arms.PLAIN: 4.0}.get(arm, 1.0))
        for name in study.works
        for arm in study.arms
    }
    text = page.table(study, ends, 3, law="abc")
    assert "Law `abc`" in text and page.NOTES[study.title] in text
    held, auto, plain = (
        line for line in text.splitlines() if line.startswith("| **all")
    )
    assert held.startswith("| **all** | 0.9 |  | 0.5 (0.5–0.5) | 4 (4–4) | 1 (1–1)")
    assert auto.startswith("| **all** | 0.9 |  | 8 (8–8) | 2 (2–2)")
    assert plain.startswith("| **all** | 0.9 |  | 0.25 (0.25–0.25) |")
    assert len(plain.split("|")) == len(held.split("|")) - 2
