"""Taking a part out of the law takes out that part."""

import numpy as np
import pytest

import adaptive_optax as ao
from benchmarks import ablation, families, laws, protocol
from benchmarks.peers import ours


@pytest.mark.parametrize("part", ablation.PARTS)
def test_without_a_part_the_law_is_another_one(part):
    assert laws.row(ablation.PARTS[part]) != laws.row({})


def test_a_row_is_the_law_again():
    paths, row = laws.numbers(), laws.row({"skip.noises": 8.0})
    assert len(paths) == len(row) and ("average", "every") not in paths
    law = ao.Law()
    for path, value in zip(paths, row, strict=True):
        law = laws.put(law, path, value)
    assert law == ao.Law(skip=ao.law.Skip(noises=8.0))
    with pytest.raises(KeyError, match="the law has no number 'skip.noise'"):
        laws.row({"skip.noise": 8.0})


def test_many_laws_in_one_program_are_each_alone():
    name = families.draws(families.DEVELOPMENT, 1, ("quadratic",))[0]
    lanes = (("x1", (1e-3, 1e-3)), ("x10", (1e-2, 1e-2)))
    changes = [{}, {"trust": np.inf}, {"nudge.rate": 0.2}]
    _, together = laws.finals(name, changes, lanes, protocol.SEEDS)
    _, (alone,) = laws.finals(name, changes[2:], lanes, protocol.SEEDS)
    for label, found in alone.items():
        assert found.shape == (2, len(protocol.SEEDS))
        np.testing.assert_allclose(found, together[2][label], rtol=1e-4)
    assert not np.allclose(together[0]["x1"], together[1]["x1"], rtol=1e-3)


@pytest.mark.parametrize(
    "text, message",
    [
        ("law__trail=None", "the law has no 'trail' .did you mean 'trial'"),
        ("law__audit__step=20", "the law has no 'step' .did you mean 'steps'"),
    ],
)
def test_what_the_law_has_not_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        ours.configured(text)
