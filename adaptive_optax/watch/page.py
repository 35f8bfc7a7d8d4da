"""A figure without pyplot, light or dark, that a notebook shows by itself."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# After Okabe and Ito: told apart by everyone, in print too. Their sky blue and orange
# are too pale on white (a line needs a contrast of 3): here they are grey and brown.
_LIGHT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#4D4D4D", "#6B4A00")
_DARK = ("#3F9BE0", "#F0803C", "#2BCB9C", "#D98CBB", "#FFFFFF", "#F0E442")
_PAGES = {  # paper, ink, grid, lines
    False: ("#FFFFFF", "#333333", "#E6E6E6", _LIGHT),
    True: ("#121212", "#DDDDDD", "#383838", _DARK),
}


@contextmanager
def style(dark: bool, who: str) -> Iterator[None]:
    """Matplotlib's settings while a page is drawn; the user's own return after it.

    Raises:
      ImportError: If Matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.rcsetup import cycler
    except ImportError as error:
        raise ImportError(
            f"`{who}` needs Matplotlib; "
            'install it with pip install "adaptive_optax[plot]".'
        ) from error
    paper, ink, grid, lines = _PAGES[dark]
    settings: Any = {
        "figure.facecolor": paper,
        "savefig.facecolor": paper,
        "axes.facecolor": paper,
        "axes.prop_cycle": cycler(color=lines),
        "axes.edgecolor": ink,
        "axes.labelcolor": ink,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.xmargin": 0.01,
        "grid.color": grid,
        "grid.linewidth": 0.8,
        "legend.fontsize": 9.0,
        "legend.frameon": False,
        "text.color": ink,
        "xtick.color": ink,
        "xtick.labelsize": 9.0,
        "ytick.color": ink,
        "ytick.labelsize": 9.0,
        "figure.dpi": 110.0,
    }
    with mpl.rc_context(settings):
        yield


def blank(width: float, height: float) -> "Figure":
    """An empty page, inside of `style`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    class Page(Figure):
        def _repr_png_(self) -> bytes:
            picture = io.BytesIO()
            self.savefig(picture, format="png", facecolor=self.get_facecolor())
            return picture.getvalue()

    figure = Page(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finish(
    figure: "Figure", title: str | None, path: str | os.PathLike[str] | None
) -> "Figure":
    """Title it, and save it where asked."""
    if title is not None:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    if path is not None:
        figure.savefig(path, dpi=150, facecolor=figure.get_facecolor())
    return figure


def setting(name: str) -> Any:
    """One of the settings in force."""
    import matplotlib as mpl

    known: Any = mpl.rcParams
    return known[name]


def colors(n: int) -> list[str]:
    """As many line colours, again from the first where they end."""
    known = setting("axes.prop_cycle").by_key()["color"]
    return [known[i % len(known)] for i in range(n)]
