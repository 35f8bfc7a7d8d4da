"""A public name says what it does, on what, what it refuses, and shows it."""

import inspect
import re

import pytest

import adaptive_optax as ao

MODULES = {
    "rules": ao.rules.__all__,
    "filters": ["adagrad", "adam", "adamw", "momentum_sgd"],
}
PUBLIC = {name: getattr(ao, name) for name in ao.__all__}
PUBLIC |= {
    f"{module}.{name}": getattr(getattr(ao, module), name)
    for module, names in MODULES.items()
    for name in names
}
FUNCTIONS = {k: x for k, x in PUBLIC.items() if inspect.isfunction(x)}
TUPLES = {k: x for k, x in PUBLIC.items() if hasattr(x, "_fields")}
TUPLES |= {k: x for k, x in vars(ao.law).items() if hasattr(x, "_fields")}
REFUSES_NOTHING = {"state_arrays"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function(name):
    said = inspect.getdoc(FUNCTIONS[name])
    for part in ("Args:", "Returns:", "Example:", ">>>"):
        assert part in said
    assert "Raises:" in said or name in REFUSES_NOTHING
    arguments = said[said.index("Args:") :]
    parameters = set(inspect.signature(FUNCTIONS[name]).parameters)
    if "**options: Of `adaptive_scheduler`" in arguments:
        parameters -= set(inspect.signature(ao.adaptive_scheduler).parameters) - {
            "learning_rate",
            "momentum",
        }
    for parameter in parameters:
        assert re.search(rf"^ +\*?\*?{parameter}[:,]", arguments, re.M), parameter


@pytest.mark.parametrize("name", TUPLES)
def test_every_field_says_what_it_is(name):
    source = inspect.getsource(TUPLES[name])
    for field in TUPLES[name]._fields:
        assert re.search(rf"^    {field}: \S", source, re.M), field


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_else(name):
    said = inspect.getdoc(PUBLIC[name])
    assert len(said.splitlines()[0]) > 10
    assert said.splitlines()[0].rstrip().endswith((".", ":"))
