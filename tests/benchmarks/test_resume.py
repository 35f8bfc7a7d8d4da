"""The table of resumed runs, of one cut on two meshes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import cut_run, resume

NPZ, MSGPACK, ORBAX, MEMORY = resume.FORMATS


@pytest.fixture(scope="module")
def here():
    return cut_run.place("1 device", 24)


@pytest.mark.slow  # tests/scale/test_checkpoint.py stands for it
def test_a_run_is_cut_and_goes_on_to_the_bit(here):
    text = resume.tables(
        cuts=["in the warm-up"],
        formats=[NPZ, MEMORY],
        meshes=["1 device"],
        steps=24,
    )
    lines = text.splitlines()
    assert lines[0].startswith("2 of 2 resumed runs end equal to the bit")
    assert f"| 10: in the warm-up | {NPZ} | to the bit |" in lines


@pytest.mark.parametrize("form", resume.FORMATS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_format_gives_back_what_it_got(form, here):
    carry = here.put(cut_run.start())
    assert resume.gap(resume.FORMATS[form](carry, here), carry) is None
    assert jax.tree.structure(resume.FORMATS[form](carry, here)) == jax.tree.structure(
        carry
    )


@pytest.mark.parametrize("mesh", cut_run.MESHES)
def test_parameters_lie_as_the_mesh_has_it(mesh):
    kernel = cut_run.place(mesh, 24).shardings[0][0]["kernel"]
    parts = {"1 device": 1, "8, data": 1, "8, fully sharded": 8, "4x2": 8}[mesh]
    assert np.prod(kernel.shard_shape((64, 64))) * parts == 64 * 64


def test_a_gap_is_the_largest_and_none_where_bits_are_equal():
    tree = {"a": jnp.ones(2), "n": jnp.full(1, jnp.nan), "i": jnp.arange(2)}
    assert resume.gap(tree, tree) is None
    assert resume.gap({**tree, "a": jnp.asarray([1.0, 1.5])}, {**tree}) != 0
    assert resume.gap([jnp.zeros(2)], [jnp.asarray([0.0, -0.5])]) == 0.5
    assert resume.gap([jnp.zeros(1)], [-jnp.zeros(1)]) == 0.0  # other bits


def test_a_cut_that_never_comes_is_refused(here):
    history = here.run(here.put(cut_run.start()), 0, 3)
    with pytest.raises(ValueError, match="never was so: the rate decays"):
        cut_run.cuts_of(history, ["the rate decays"])
