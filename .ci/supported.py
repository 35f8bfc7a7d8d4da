"""What pyproject.toml supports, and which of it this machine has."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENDS = ("newest", "oldest")  # of what it admits


def supported_pythons() -> list[str]:
    """The versions that pyproject.toml names in its classifiers."""
    found = [re.fullmatch(r".* (3\.\d+)", line) for line in PROJECT["classifiers"]]
    return [match[1] for match in found if match]


def find_pythons() -> dict[str, str | None]:
    """Every supported Python, and every other of this machine from the oldest one on.

    Returns:
      The path of each version's interpreter, None where the machine has none.
    """
    supported = supported_pythons()
    oldest = _numbers(supported[0])
    folders = [Path(p) for p in os.environ.get("PATH", "").split(os.pathsep) if p]
    pyenv = Path(os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv"))
    folders += [path / "bin" for path in pyenv.glob("versions/*")]
    found: dict[str, str | None] = {}
    for folder in folders:
        for path in folder.glob("python3.*"):
            match = re.fullmatch(r"python(3\.\d+)", path.name)
            if match and match[1] not in found and _numbers(match[1]) >= oldest:
                if _answers(path, match[1]):
                    found[match[1]] = str(path)
    everything = set(supported) | set(found)
    return {version: found.get(version) for version in sorted(everything, key=_numbers)}


def lower_bounds() -> list[str]:
    """``name==version`` for the lower bound of every dependency in pyproject.toml.

    Raises:
      ValueError: If a dependency has no lower bound.
    """
    extras = PROJECT["optional-dependencies"]
    bounds = []
    for line in PROJECT["dependencies"] + [x for name in extras for x in extras[name]]:
        match = re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?(?:>=([\w.]+))?", line)
        if not match:
            raise ValueError(f"pyproject.toml: cannot read the dependency {line!r}")
        name, version = match.groups()
        if name != PROJECT["name"]:
            if version is None:
                raise ValueError(f"pyproject.toml: {line!r} needs a lower bound")
            bounds.append(f"{name}=={version}")
    return sorted(set(bounds))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _answers(path: Path, version: str) -> bool:
    """Whether this is that Python: a shim of pyenv may stand for one that is absent."""
    code = "import sys; print(*sys.version_info[:2], sep='.')"
    try:
        run = subprocess.run([path, "-c", code], capture_output=True, text=True)
    except OSError:
        return False
    return run.returncode == 0 and run.stdout.strip() == version
