"""The command line: read a recorded run, draw it, or look at an installation.

    python -m adaptive_optax explain RUN
    python -m adaptive_optax plot RUN -o loop.png
    python -m adaptive_optax doctor

RUN is what `History.save` wrote: a file that ends in .csv, .jsonl or .npz.
"""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from adaptive_optax.watch import doctor as examination
from adaptive_optax.watch.explain import explain as explaining
from adaptive_optax.watch.files import FORMATS
from adaptive_optax.watch.history import History
from adaptive_optax.watch.plot import plot_history

try:
    import tyro
except ImportError:
    sys.exit(
        "python -m adaptive_optax needs tyro; "
        'install it with pip install "adaptive_optax[cli]".'
    )

app = tyro.extras.SubcommandApp()
Run = Annotated[Path, tyro.conf.Positional]


@app.command
def explain(run: Run) -> None:
    """Say in words what happened in a run, and what to do.

    Args:
      run: What `History.save` wrote.
    """
    history = _loaded(run, "explain")
    with _saying(f"'{run}' cannot be explained"):
        print(explaining(history))


@app.command
def plot(
    run: Run,
    *,
    output: Annotated[Path, tyro.conf.arg(aliases=("-o",))] = Path("loop.png"),
    title: str | None = None,
    dark: bool = False,
) -> None:
    """Draw a run: the loss, and below it every gain.

    Args:
      run: What `History.save` wrote.
      output: The picture; its suffix picks the format.
      title: Of the page.
      dark: Light lines on a dark page.
    """
    if output.is_dir():
        raise ValueError(
            f"`--output` must be a picture, got the folder '{output}'; try -o "
            f"{_typed(output / 'loop.png')}."
        )
    if not output.suffix:
        raise ValueError(
            f"`--output` must end in the suffix of a picture, got '{output}'; try "
            f"-o {_typed(f'{output}.png')}."
        )
    if not output.parent.is_dir():
        raise ValueError(
            f"there is no folder '{output.parent}' for `--output`; make it first, or "
            f"try -o {_typed(output.name)}."
        )
    history = _loaded(run, "plot")
    with _saying(f"'{run}' cannot be drawn as '{output}'"):
        plot_history(history, title=title, path=output, dark=dark)
    print(f"wrote {output}")


@app.command
def doctor() -> None:
    """Tell versions and devices, and try what the package needs."""
    lines = examination.report()
    width = max(len(what) for what, _ in lines)
    for what, how in lines:
        print(f"{what:<{width}}  {how}")
    if any(how.startswith("FAILS") for _, how in lines):
        sys.exit(1)


def _loaded(run: Path, command: str) -> History:
    """The run in a file, which must hold a step."""
    call = f"python -m adaptive_optax {command}"
    if run.is_dir():
        raise ValueError(
            f"'{run}' is a folder; give a file in it that history.save wrote, and try "
            f"{call} {_typed(run / 'run.csv')}."
        )
    if run.suffix not in FORMATS:
        raise ValueError(
            f"a run is a file that ends in .npz, .csv or .jsonl, got '{run}'; write it "
            f"with history.save('run.csv'), and try {call} run.csv."
        )
    if not run.exists():
        raise ValueError(
            f"there is no file '{run}'; write it after some training, with "
            f"history.save({str(run)!r}), and try {call} {_typed(run)}."
        )
    history = History.load(run)
    if not len(history):
        raise ValueError(
            f"'{run}' holds no step; write it after some training, with "
            f"history.save({str(run)!r})."
        )
    return history


def _typed(path: Path | str) -> str:
    """A path as it is typed in a shell, quoted where it has spaces."""
    return shlex.quote(str(path))


@contextmanager
def _saying(what: str) -> Iterator[None]:
    """What was asked for, in front of why it cannot be."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


def main() -> None:
    """Run a subcommand; a mistake in its arguments is one line, and exit code 2."""
    try:
        app.cli(prog="python -m adaptive_optax", description=__doc__)
    except ImportError as error:
        sys.exit(f"adaptive_optax: {error}")
    except (OSError, ValueError) as error:
        told = str(error)
        if isinstance(error, OSError) and error.filename:
            told = f"'{error.filename}' cannot be opened: {error.strerror}."
        print("adaptive_optax:", " ".join(told.splitlines()), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
