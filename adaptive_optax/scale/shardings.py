"""Where an optimizer's state lies on a mesh, from where the parameters lie."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from adaptive_optax import _trees
from adaptive_optax._memory import on_host
from adaptive_optax.scale import arguments

Path = tuple[Any, ...]


def state_shardings(tx: Any, params: Any, shardings: Any = None) -> Any:
    """The sharding of every array of a state, for `jax.jit` and for checkpoints.

    An array that belongs to a parameter (a moment, an average, a copy, a sketch) lies
    as the parameter does. Everything else is replicated over the parameters' mesh. An
    array belongs to a parameter if its path in the state ends with the parameter's and
    its shape is the parameter's, or a slice of it with strides that are powers of two,
    as a sketch is. An axis that its mesh axes do not divide is left whole. What a state
    keeps in host memory stays there.

    Args:
      tx: Any Optax transformation, of this package or around it or neither.
      params: The parameters, or their `jax.ShapeDtypeStruct`s; nothing is allocated.
      shardings: A tree like ``params`` of `jax.sharding.Sharding`, on a `jax.sharding.
        AbstractMesh` if need be, or one for all parameters. By default those that the
        parameters have themselves.

    Returns:
      A tree like ``tx.init(params)`` of shardings.

    Raises:
      TypeError: If something else than a sharding is given, or arguments are swapped.
      ValueError: If the trees do not fit.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import adaptive_optax as ao
      >>> from jax.sharding import NamedSharding, PartitionSpec
      >>> mesh = jax.make_mesh((1,), ("data",))
      >>> where = {"w": NamedSharding(mesh, PartitionSpec("data"))}
      >>> params = jax.device_put({"w": jnp.ones(8)}, where)
      >>> tx = ao.adaptive_adamw(1e-3)
      >>> shardings = ao.state_shardings(tx, params, where)
      >>> state = jax.jit(tx.init, out_shardings=shardings)(params)
      >>> tuple(state.averaging.average["w"].sharding.spec)
      ('data',)
    """
    arguments.check("state_shardings(tx, params, shardings)", tx, params)
    return places(*abstract_state(tx, params), params, shardings)


def abstract_state(tx: Any, params: Any) -> tuple[Any, Any]:
    """The shapes of ``tx.init(params)``, and which of its arrays lie on the host."""
    jaxpr, shapes = jax.make_jaxpr(tx.init, return_shape=True)(params)
    hosts = [on_host(kind) for kind in jaxpr.out_avals]
    return shapes, jax.tree.unflatten(jax.tree.structure(shapes), hosts)


def places(shapes: Any, hosts: Any, params: Any, shardings: Any) -> Any:
    """The shardings of an `abstract_state`; the rest as for `state_shardings`."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    placed = {
        path: (jnp.shape(leaf), sharding)
        for (path, leaf), sharding in zip(
            leaves, _checked(params, shardings, structure), strict=True
        )
    }
    elsewhere = _replicated([sharding for _, sharding in placed.values()])

    def one(path: Path, leaf: Any, host: bool) -> Sharding:
        sharding = _of(path, leaf.shape, placed, elsewhere)
        return sharding.with_memory_kind("pinned_host") if host else sharding

    return jax.tree_util.tree_map_with_path(one, shapes, hosts)


def _checked(params: Any, shardings: Any, structure: Any) -> list[Sharding]:
    """One sharding for each parameter, in tree order."""
    given: list[Any]
    if shardings is None:
        given = [getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(params)]
    elif isinstance(shardings, Sharding):
        given = [shardings] * structure.num_leaves
    else:
        given, theirs = jax.tree.flatten(
            shardings, is_leaf=lambda node: isinstance(node, PartitionSpec)
        )
        if theirs != structure:
            raise ValueError(
                "`shardings` do not fit the parameters: their tree "
                f"{_trees.difference(shardings, params)}; give one sharding for each "
                "parameter, such as jax.tree.map(lambda p: p.sharding, params)."
            )
    for path, one in zip(_trees.leaf_paths(params), given, strict=True):
        if not isinstance(one, Sharding):
            raise TypeError(
                f"`shardings` must hold shardings, got {one!r} for {path!r}; try "
                "jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())."
            )
    return given


def _replicated(shardings: list[Sharding]) -> Sharding:
    """Where the law's scalars lie: everywhere on the parameters' mesh."""
    named = [one for one in shardings if isinstance(one, NamedSharding)]
    if named:
        return NamedSharding(named[0].mesh, PartitionSpec())
    return shardings[0] if shardings else SingleDeviceSharding(jax.devices()[0])


def _of(
    path: Path,
    shape: tuple[int, ...],
    placed: dict[Path, tuple[tuple[int, ...], Sharding]],
    elsewhere: Sharding,
) -> Sharding:
    """The sharding of one array of the state."""
    for start in range(len(path) + 1):
        whole, sharding = placed.get(path[start:], (None, elsewhere))
        if whole is None or not _is_slice(shape, whole):
            continue
        if shape == whole or not isinstance(sharding, NamedSharding):
            return sharding
        spec = [
            names if extent % _parts(sharding, names) == 0 else None
            for extent, names in zip(shape, tuple(sharding.spec), strict=False)
        ]
        while spec and spec[-1] is None:
            spec.pop()
        return NamedSharding(sharding.mesh, PartitionSpec(*spec))
    return elsewhere


def _is_slice(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether it is a sketch's slice of a leaf; one of complex ones holds pairs."""
    if len(shape) == len(whole) + 1 and shape[-1] == 2:
        shape = shape[:-1]
    if len(shape) != len(whole):
        return False
    return all(
        any(-(-n // 2**k) == part for k in range(max(n, 1).bit_length()))
        for part, n in zip(shape, whole, strict=True)
    )


def _parts(sharding: NamedSharding, names: Any) -> int:
    """Over how many devices the mesh axes of one dimension spread it."""
    names = () if names is None else names if isinstance(names, tuple) else (names,)
    parts = 1
    for name in names:
        parts *= sharding.mesh.shape[name]
    return parts
