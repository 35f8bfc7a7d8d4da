"""A bar over cells as they are computed."""

import time
from collections.abc import Iterator, Sequence

from tqdm import tqdm

from benchmarks.cells import Cell, Result


def progress(
    results: Iterator[tuple[Result, bool]], wanted: Sequence[Cell]
) -> Iterator[tuple[Result, bool]]:
    """Pass the results on under a bar."""
    start, computed = time.monotonic(), 0
    with tqdm(total=len(wanted), unit="cell", smoothing=0.02) as bar:
        for result, fresh in results:
            computed += fresh
            bar.update()
            bar.set_postfix_str(f"{result.cell.problem} x {result.cell.peer}")
            if fresh and result.error is not None:
                bar.write(f"{result.cell.problem} x {result.cell.peer}: {result.error}")
            yield result, fresh
    minutes = (time.monotonic() - start) / 60
    print(f"{len(wanted)} cells, {computed} computed now, {minutes:.1f} min")
