"""The documentation site.

    pip install -e ".[docs]" && python -m sphinx -W --keep-going docs docs/_build/html

builds it into docs/_build/html; every warning is an error, and every code cell is run.
"""

import inspect
import os
import re
import tomllib
from pathlib import Path

import adaptive_optax

ROOT = Path(__file__).parent.parent
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"][
    "Repository"
]

project = "adaptive_optax"
author = "The adaptive_optax authors"
copyright = f"2026, {author}"
release = version = adaptive_optax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

# Pages. Cells run on every build: a page that no longer runs is no page.
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_excludepatterns = ["howto/*"]  # no cells there; a test runs their code
nb_merge_streams = True
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# The API, from the docstrings. A name in single backticks is a link where it is known.
highlight_language = "none"
default_role = "py:obj"
add_module_names = False
autosummary_generate = True
# Beside snapshot.html, where upper and lower case are one.
autosummary_filename_map = {"adaptive_optax.Snapshot": "adaptive_optax.Snapshot_type"}
autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_use_rtype = False
napoleon_preprocess_types = False
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "sphinx_book_theme"
html_title = "adaptive_optax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "repository_url": REPOSITORY,
    "path_to_docs": "docs",
    "use_repository_button": True,
    "use_edit_page_button": True,
    "use_download_button": False,
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the sidebar has the search already
}
html_copy_source = False


def to_repository(app, docname, source):
    """Point links that leave docs/ at the repository: these files are no pages."""
    folder = (Path(app.srcdir) / docname).parent

    def one(match: re.Match) -> str:
        path, _, anchor = match[1].partition("#")
        target = (folder / path).resolve()
        if not target.exists():
            return match[0]  # MyST warns of it
        kind = "tree" if target.is_dir() else "blob"
        url = f"{REPOSITORY}/{kind}/main/{target.relative_to(ROOT)}"
        return f"]({url}{'#' + anchor if anchor else ''})"

    source[0] = re.sub(r"\]\(((?:\.\./)+(?!docs/)[^)\s]+)\)", one, source[0])


FIELD = re.compile(r"^    (\w+): (.+?)(?: = (.+?))?(?:  # (.*))?$", re.MULTILINE)


def plurals(app, what, name, obj, options, lines):
    """Let `Rule`s end a name: reStructuredText wants a space behind the mark."""
    lines[:] = [re.sub(r"(?<!`)(`[\w.]+`)(\w)", r"\1\\ \2", line) for line in lines]


def field_list(app, what, name, obj, options, lines):
    """Add a table of a NamedTuple's fields, from the comments behind them."""
    if what != "class" or not hasattr(obj, "_fields"):
        return
    found = {field: rest for field, *rest in FIELD.findall(inspect.getsource(obj))}
    lines += ["", ".. list-table:: Fields", "   :header-rows: 1", ""]
    lines += ["   * - field", "     - default", "     - what it is"]
    for field in obj._fields:
        kind, default, says = found[field]
        lines += [
            f"   * - ``{field}``",
            f"     - {f'``{default}``' if default else ''}",
            f"     - {says.replace('|', chr(92) + '|') or f'``{kind}``'}",
        ]
    lines.append("")


def equation(app, what, name, obj, options, lines):
    """Show the equation of a rule, which its module has at the top."""
    if what != "function" or not obj.__module__.startswith("adaptive_optax.rules."):
        return
    _, *said = inspect.getdoc(inspect.getmodule(obj)).splitlines()
    if not any(line.startswith("    ") for line in said):
        return
    # An indented block is a quotation to reStructuredText, unless a "::" announces it.
    text = re.sub(r"(?<!::)\n\n(?=    )", "\n\n::\n\n", "\n".join(["", *said]))
    at = next(i for i, line in enumerate(lines) if line.startswith("Args:"))
    lines[at:at] = [*text.strip("\n").splitlines(), ""]


def is_field(app, what, name, obj, skip, options):
    """Leave "Alias for field number 0" out: the table above says more."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app):
    """Register the hooks."""
    app.connect("source-read", to_repository)
    app.connect("autodoc-process-docstring", equation, priority=400)  # before Napoleon
    app.connect("autodoc-process-docstring", plurals)
    app.connect("autodoc-process-docstring", field_list)
    app.connect("autodoc-skip-member", is_field)
