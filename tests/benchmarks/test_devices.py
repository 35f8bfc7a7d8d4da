"""The cost on a mesh, of a model that compiles in a moment."""

import jax
import pytest

from benchmarks import cost, devices, models

TINY = models.gpt(models.NANO._replace(scan=False, batch=8, blocks=1))
NAMES = ("plain again", "AdamW, lost parameters counted")


@pytest.fixture(scope="module")
def found():
    return devices.measure(
        TINY, 8, ways=("jit, fully sharded", "shard_map"), names=NAMES, repeats=2
    )


def test_every_way_has_its_rows_and_the_table_shows_them(found):
    assert list(found) == ["jit, fully sharded", "shard_map"]
    for rows, seconds in found.values():
        assert list(rows) == list(NAMES) and seconds > 0
        assert all(row["error"] is None for row in rows.values())
        assert all(row[devices.KEY]["median"] > 0 for row in rows.values())
    lines = devices.table(found).splitlines()
    assert len(lines) == 2 + len(NAMES) + 1
    assert {line.count("|") for line in lines} == {4}


@pytest.mark.parametrize("way", devices.WAYS)
def test_all_that_is_measured_can_be_built(way):
    made = devices.makers(way)
    assert (devices.COMPARED in made) == (way == "shard_map")
    params = jax.eval_shape(TINY.init, jax.random.key(0))
    for make in made.values():
        jax.eval_shape(make().init, params)


@pytest.mark.parametrize("looks", [True, False])
def test_lost_parameters_are_counted_only_if_asked_for(looks):
    params = {"w": jax.numpy.ones(3), "b": jax.numpy.ones(2)}
    tx = devices.looks_for_lost(looks)
    state = tx.init(params)
    struck = {**params, "w": params["w"].at[:2].set(jax.numpy.nan)}
    _, (*_, counts) = tx.update(params, state, struck)
    assert counts.tolist() == ([0, 2] if looks else [0, 0])


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="batch of 12 does not .* 8 .*--batch 64"):
        cost.cost(devices=8, batch=12)
