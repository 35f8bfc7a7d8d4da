"""The command line: read a recorded run, draw it, or look at an installation.

    python -m adaptive_optax explain RUN
    python -m adaptive_optax plot RUN -o loop.png
    python -m adaptive_optax doctor

RUN is what `History.save` wrote: a file that ends in .csv, .jsonl or .npz.
"""

import sys
from pathlib import Path
from typing import Annotated

from adaptive_optax.watch import doctor as examination
from adaptive_optax.watch.explain import explain as explaining
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
    print(explaining(_loaded(run)))


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
    if not output.suffix:
        raise ValueError(
            f"`--output` must end in the suffix of a picture, got '{output}'; try "
            f"-o {output}.png."
        )
    plot_history(_loaded(run), title=title, path=output, dark=dark)
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


def _loaded(run: Path) -> History:
    """The run in a file, which must hold a step."""
    history = History.load(run)
    if not len(history):
        raise ValueError(
            f"'{run}' holds no step; write it after some training, with "
            f"history.save('{run}')."
        )
    return history


def main() -> None:
    """Run a subcommand; a mistake in its arguments is one line."""
    try:
        app.cli(prog="python -m adaptive_optax", description=__doc__)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"adaptive_optax: {error}")


if __name__ == "__main__":
    main()
