"""Hashes of the code that a result depends on.

Of syntax trees without docstrings, so that a comment costs nothing.
"""

import ast
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


@functools.cache
def syntax_hash(path: Path) -> str:
    """Hash of a file, or of a folder's Python files, that comments do not change."""
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    found = hashlib.sha256()
    for file in files:
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and _is_docstring(body[0]):
                del body[0]
        found.update(file.name.encode() + ast.dump(tree).encode())
    return found.hexdigest()


def _is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def digest(content: Any) -> str:
    """Hash of anything that is JSON."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]


def law_hash(code: str = "") -> str:
    """Of the package alone: which law was judged."""
    return syntax_hash((Path(code) if code else ROOT) / "adaptive_optax")[:12]


def problem_hash(family: str) -> str:
    """Of what a family and every run of it depend on."""
    here = Path(__file__).parent
    own = here / "families" / f"{family}.py"
    files = [
        own,
        *(
            path
            for path in sorted((here / "families").glob("*.py"))
            if _uses(own, path)
        ),
        here / "peers" / "inner.py",
        here / "contract.py",
        here / "experiment.py",
    ]
    return digest([syntax_hash(file) for file in files])


def _uses(file: Path, other: Path) -> bool:
    """Whether a family imports another file of the folder, or all do."""
    if other.stem.startswith("_"):
        return other.stem != "__init__"
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "benchmarks.families"
        and other.stem in [alias.name for alias in node.names]
        for node in ast.walk(ast.parse(file.read_text()))
    )
