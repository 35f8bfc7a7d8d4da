"""A public name says what it does, on what, what it refuses, and shows it."""

import inspect
import re
import sys

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
# They read, write, draw or tell what is there: nothing is computed from an equation.
TOOLS = {
    "apply_updates",
    "block_labels",
    "describe",
    "eval_params",
    "explain",
    "frozen_mask",
    "hold_frozen",
    "load_state",
    "log_every",
    "plot_freezing",
    "plot_history",
    "repair",
    "skip_mask",
    "snapshot",
    "state_arrays",
    "state_bytes",
    "state_shardings",
}
# Ready-made: the equations are those of the filter and the loop, which they name.
READY = {
    "adaptive_adam",
    "adaptive_adamw",
    "adaptive_sgd",
    "online_adagrad",
    "online_sgd",
    "restore_on_divergence",
    "filters.adamw",
}
BUILT = {"Freeze", "History", "Law", "Recovery", "Rule", "StagedStep"}
# What is given back: its shape, or what sort of thing it is.
SHAPE = re.compile(
    r"\[\]|\[L\]|scalar|tree|like ``|transformation|`Rule`|figure|array|Lines of text"
    r"|callback|in bytes|\{name: number\}|^Parameters|The new parameters"
    r"|``\(value, gradients\)``",
    re.MULTILINE,
)
EQUATION = re.compile(r"\.\. math::|::\n\n    |\n\n    .*(=|<-|←|where)|``.* = ")


def section(said, name):
    """A section of a docstring, without its indentation; "" if there is none."""
    found = re.search(rf"^{name}:\n((?:(?:  .*)?\n?)*)", said, re.MULTILINE)
    return inspect.cleandoc(found[1]) if found else ""


def missing(name, said, module="", parameters=()):
    """What a function's docstring does not say."""
    found = set()
    if name not in TOOLS | READY and not EQUATION.search(f"{module}\n\n{said}"):
        found.add("equation")
    if len(said.splitlines()[0]) <= 10 or not re.search(r"\w[.:]\n", said):
        found.add("semantics")
    if not SHAPE.search(section(said, "Returns")):
        found.add("shapes")
    if not section(said, "Raises") and name not in REFUSES_NOTHING:
        found.add("errors")
    if ">>>" not in section(said, "Example"):
        found.add("example")
    if not section(said, "References") and name not in TOOLS:
        found.add("source")
    told = section(said, "Args")
    return found | {
        f"argument {parameter}"
        for parameter in parameters
        if not re.search(rf"^\*?\*?{parameter}[:,]", told, re.MULTILINE)
    }


def parts_of(name):
    function = FUNCTIONS[name]
    parameters = set(inspect.signature(function).parameters)
    said = inspect.getdoc(function)
    if "**options: Of `adaptive_scheduler`" in said:
        parameters -= set(inspect.signature(ao.adaptive_scheduler).parameters) - {
            "learning_rate",
            "momentum",
        }
    # The site shows the module's equation on the page of a rule.
    shown = name.startswith("rules.") or name == "blend"
    module = inspect.getdoc(sys.modules[function.__module__]) if shown else ""
    return said, module, parameters


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function(name):
    assert missing(name, *parts_of(name)) == set()


@pytest.mark.parametrize(
    ("part", "pattern"),
    [
        ("equation", r"(?s)\.\. math::.*?\n\n(?=\S)"),
        ("semantics", r"(?s)\A.*(?=Args:)"),
        ("shapes", r"(?s)Returns:\n.*?\n\n"),
        ("errors", r"(?s)Raises:\n.*?\n\n"),
        ("example", r"(?s)Example:\n.*?\n\n"),
        ("source", r"(?s)References:.*\Z"),
        ("argument power", r" +power: .*\n"),
    ],
)
def test_a_piece_that_is_taken_out_is_missed(part, pattern):
    said, module, parameters = parts_of("average_params")
    shorter = re.sub(pattern, "\n", said, count=1)
    assert shorter != said
    assert part in missing("average_params", shorter, module, parameters)


def test_exceptions_are_of_functions_that_exist():
    assert TOOLS | READY | REFUSES_NOTHING <= FUNCTIONS.keys()
    assert BUILT <= PUBLIC.keys()


@pytest.mark.parametrize("name", TUPLES)
def test_every_field_says_what_it_is(name):
    source = inspect.getsource(TUPLES[name])
    for field in TUPLES[name]._fields:
        assert re.search(rf"^    {field}: \S", source, re.M), field


@pytest.mark.parametrize("name", sorted(BUILT))
def test_what_a_user_builds_has_an_example(name):
    assert ">>>" in section(inspect.getdoc(PUBLIC[name]), "Example")


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_else(name):
    said = inspect.getdoc(PUBLIC[name])
    assert len(said.splitlines()[0]) > 10
    assert said.splitlines()[0].rstrip().endswith((".", ":"))
