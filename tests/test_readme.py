"""The README's code runs, and its commands are the ones that CI runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(text):
    """The Python of a page; the options of a notebook's cell are none."""
    found = re.findall(
        r"^```(?:python|\{code-(?:cell|block)\} python)\n(?:---\n.*?^---\n)?(.*?)^```",
        text,
        re.MULTILINE | re.DOTALL,
    )
    return [re.sub(r"^:.*\n", "", block, flags=re.MULTILINE) for block in found]


BLOCKS = blocks(README)
COMMANDS = re.findall(r"^    (pip install .*)$", README, re.MULTILINE)


def test_blocks_run_one_after_another():
    namespace = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"README.md, block {number}", "exec"), namespace)
    assert len(namespace["history"]) == 100


def test_the_first_example_does_what_it_says(capsys):
    lines = [line for line in BLOCKS[0].splitlines() if line]
    assert len(lines) <= 18
    exec(BLOCKS[0], {})
    rate, loss = map(float, capsys.readouterr().out.split())
    assert rate > 1e-3  # from a base of 1e-5
    assert loss < 0.05  # from 4


def test_the_first_example_is_on_the_first_screen():
    assert README[: README.index("```python")].count("\n") < 20


def test_there_are_exactly_two_commands():
    assert COMMANDS == [
        'pip install -e ".[examples]" && python examples/mnist.py',
        'pip install -e ".[dev]" && pytest -n 2 --dist loadfile',
    ]


def test_ci_runs_the_test_command():
    assert COMMANDS[1] in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\bao\.(\w+)", README))))
def test_every_name_exists(name):
    import adaptive_optax as ao

    assert hasattr(ao, name)
