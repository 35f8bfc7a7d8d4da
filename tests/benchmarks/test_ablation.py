"""Taking a part out of the law takes out that part."""

import pytest

import adaptive_optax as ao
from benchmarks import ablation, peers
from benchmarks.peers import ours


@pytest.mark.parametrize("part", ablation.PARTS)
def test_without_a_part_the_law_is_another_one(part):
    text = ablation.PARTS[part]
    assert ours.options_of(text)["law"] != ao.Law()
    assert peers.get(f"ours({text})").ours


@pytest.mark.parametrize(
    "text, message",
    [
        ("law__trail=None", "the law has no 'trail' .did you mean 'trial'"),
        ("law__audit__ded=0.0", "the law has no 'ded' .did you mean 'dead'"),
    ],
)
def test_what_the_law_has_not_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        ours.configured(text)
