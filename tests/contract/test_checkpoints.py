"""A run that was saved by Orbax and restored goes on to the bit."""

import chex
import jax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.contract.driving import driver, feedback

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def save_and_restore(path, tree, like):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
        checkpointer.wait_until_finished()
        return checkpointer.restore(path, like)


@pytest.mark.parametrize("name", ["factory", "everything", "scale_by_rule of a blend"])
def test_a_restored_run_goes_on_to_the_bit(name, tmp_path):
    drive = driver(name)
    carry = drive.loop(feedback(0, 25))
    # What a fresh process has: the shapes, from an abstract start.
    abstract = jax.eval_shape(drive.start)
    restored = save_and_restore(tmp_path / "run", carry, abstract)
    chex.assert_trees_all_equal(restored, carry)
    chex.assert_trees_all_equal_structs(restored, carry)
    rest = feedback(1, 8)
    chex.assert_trees_all_equal(drive.loop(rest, restored), drive.loop(rest, carry))
    assert drive.traces == 1


def test_a_state_is_restored_onto_another_mesh(tmp_path):
    drive = driver("factory")
    carry = drive.loop(feedback(0, 22))
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    everywhere = NamedSharding(mesh, P())
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), carry
    )
    restored = save_and_restore(tmp_path / "run", carry, like)
    chex.assert_trees_all_equal(*(jax.device_get(each) for each in (restored, carry)))
