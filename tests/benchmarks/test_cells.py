"""Cells are computed once, kept whole, and known by all that they depend on."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import cells, compare, experiment, families, hashes, peers, protocol
from benchmarks.cells import Cell, Result
from benchmarks.contract import EVALUATIONS

CELL = Cell(
    "quadratic@0.0", "constant", (("x1", (0.01, 0.02)), ("x10", (0.1, 0.2))), (0, 1, 2)
)


def result(cell=CELL, seed=0, error=None):
    rng = np.random.default_rng(seed)
    shape = (len(cell.rates), 2, len(cell.seeds), EVALUATIONS + 1)
    names = (*cells.CURVES, "learning_rate")
    curves = {kind: rng.random(shape, np.float32) for kind in names}
    return Result(cell, {} if error else curves, error, 1.0, 2.0)


@pytest.fixture
def computed(monkeypatch):
    """Cells that are computed, in place of training."""
    seen = []

    def compute(cell):
        seen.append(cell)
        return result(cell)

    monkeypatch.setattr(cells, "compute", compute)
    return seen


@pytest.mark.parametrize("error", [None, "ValueError: no"])
def test_a_result_survives_the_disk(tmp_path, error):
    saved, path = result(error=error), tmp_path / "cell.npz"
    cells.save(saved, path)
    loaded = cells.load(CELL, path)
    assert loaded._replace(curves={}) == saved._replace(curves={})
    np.testing.assert_equal(loaded.curves, saved.curves)
    assert list(tmp_path.iterdir()) == [path]  # nothing half-written stays behind


def test_a_finished_cell_is_not_computed_again(tmp_path, computed):
    first = list(cells.run([CELL], cache=tmp_path, workers=1))
    again = list(cells.run([CELL], cache=tmp_path, workers=1))
    assert [fresh for _, fresh in first + again] == [True, False]
    assert computed == [CELL]


@pytest.mark.parametrize("damage", ["truncated", "garbage", "flipped", "empty"])
def test_a_damaged_cell_is_computed_again_and_said_so(
    tmp_path, computed, capsys, damage
):
    list(cells.run([CELL], cache=tmp_path, workers=1))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    path.write_bytes(
        {
            "truncated": whole[: len(whole) // 2],
            "garbage": b"not a zip",
            "flipped": bytes(flipped),
            "empty": b"",
        }[damage]
    )
    again = list(cells.run([CELL], cache=tmp_path, workers=1))
    assert [fresh for _, fresh in again] == [True]
    error = capsys.readouterr().err
    assert "quadratic@0.0 x constant" in error and "damaged" in error
    assert len(computed) == 2
    assert path.read_bytes() == whole


def test_an_interrupted_run_keeps_what_was_finished(tmp_path, monkeypatch, computed):
    wanted = [CELL._replace(seeds=(seed,)) for seed in range(4)]
    interrupted = cells.run(wanted, cache=tmp_path, workers=1)
    next(interrupted), next(interrupted)
    interrupted.close()
    again = list(cells.run(wanted, cache=tmp_path, workers=1))
    assert sorted(fresh for _, fresh in again) == [False, False, True, True]


def test_a_peer_that_raises_is_recorded(monkeypatch):
    def explode(*_):
        raise RuntimeError("no such thing\nas a second line")

    monkeypatch.setattr(experiment, "run", explode)
    found = cells.compute(CELL)
    assert found.error == "RuntimeError: no such thing"
    assert found.curves == {}


def test_the_key_depends_on_what_is_run_and_on_nothing_else():
    key = cells.key(CELL)
    assert key == cells.key(Cell(*CELL))
    for other in (
        CELL._replace(problem="factorization@0.0"),
        CELL._replace(problem="quadratic@0.1"),
        CELL._replace(problem="quadratic@1.0"),
        CELL._replace(peer="cosine"),
        CELL._replace(seeds=(0, 2)),
        CELL._replace(rates=(("x1", (0.02, 0.02)), ("x10", (0.1, 0.2)))),
    ):
        assert cells.key(other) != key


def test_a_comment_does_not_change_the_hash(tmp_path):
    def digest(text):
        path = tmp_path / "code.py"
        path.write_text(text)
        hashes.syntax_hash.cache_clear()
        return hashes.syntax_hash(path)

    plain = digest('def f(x):\n    """Doc."""\n    return x + 1\n')
    assert plain == digest(
        '"""New."""\n\ndef f(x):  # why\n    """Else."""\n    return x+1'
    )
    assert plain != digest('def f(x):\n    """Doc."""\n    return x + 2\n')
    hashes.syntax_hash.cache_clear()


def test_a_family_depends_on_what_it_imports():
    here = Path(families.__file__).parent
    assert hashes._uses(here / "finetune.py", here / "transformer.py")
    assert not hashes._uses(here / "digits.py", here / "transformer.py")
    assert hashes._uses(here / "digits.py", here / "_layers.py")


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'quadratik'.*quadratic"):
        families.get("quadratik@0.0")
    with pytest.raises(ValueError, match=r"'constnat'.*constant"):
        peers.get("constnat")
    with pytest.raises(ValueError, match=r"unknown family 'x'; known: a, b"):
        protocol.known(("a", "x"), ("a", "b"), "family")


def test_the_quick_suite_has_the_development_draws_alone():
    quick, full = protocol.quick(), protocol.full(77)
    assert {families.parsed(name)[1] for name in quick.problems} == {0}
    assert {families.parsed(name)[1] for name in full.problems} == {77}
    assert len(full.problems) == full.draws * len(families.NAMES)
    assert set(quick.peers) <= set(full.peers) == set(peers.PEERS)


def test_everyone_has_the_same_rates(monkeypatch):
    instance = {
        peer: {"rate": rate, "metric": 1.0}
        for rate, peer in zip((0.3, 0.4, 0.5), protocol.REFERENCES, strict=True)
    }
    oracle = {"quadratic@0.0": {"instances": [instance] * 4}}
    for name in peers.PEERS:
        rates = dict(protocol.lanes("quadratic@0.0", name, oracle))
        if peers.get(name).free:
            assert rates == {"x1": (1.0,) * 4}
            continue
        assert set(protocol.FACTORS) | {"default"} <= set(rates), name
        assert rates["x1"] == (0.3,) * 4
        assert rates.get("tuned") == {
            "warmup_stable_decay": (0.4,) * 4,
            "constant": (0.5,) * 4,
        }.get(name)


def test_compare_takes_options_and_refuses_what_is_not_ours(tmp_path):
    name, code = compare.sides("mode=search,slew=0.1", tmp_path)
    assert peers.get(name).ours and code == ""
    with pytest.raises(ValueError, match="'cosine' is not ours"):
        compare.sides("cosine", tmp_path)
    with pytest.raises(ValueError, match="no package at revision 'nowhere'"):
        compare.sides("nudge@nowhere", tmp_path)


def test_another_version_of_the_package_is_another_cell(tmp_path):
    package = tmp_path / "adaptive_optax"
    package.mkdir()
    (package / "__init__.py").write_text("x = 1\n")
    ours = CELL._replace(peer="nudge")
    assert cells.key(ours._replace(code=str(tmp_path))) != cells.key(ours)
    assert Path(hashes.ROOT, "adaptive_optax", "__init__.py").exists()


@pytest.mark.parametrize("fails", ["one", "both"])
def test_a_draw_on_which_a_side_raises_is_left_out_and_named(monkeypatch, fails):
    names = "quadratic@0.0", "digits@0.0"

    def run(todo, **_):
        for cell in todo:
            one = cell.problem == names[1] and "auto" in cell.peer
            error = "ValueError: no momentum" if one or fails == "both" else None
            yield result(cell, error=error), True

    rates = tuple((label, (0.1, 0.2)) for label in compare.LABELS)
    monkeypatch.setattr(compare.oracles, "compute", lambda *_, **__: {})
    monkeypatch.setattr(compare.protocol, "lanes", lambda *_: rates)
    monkeypatch.setattr(compare.cells, "run", run)
    sides = "momentum_rule='auto'", "nudge"
    if fails == "both":
        with pytest.raises(RuntimeError, match="no draw on which both ran.*momentum"):
            compare.compare(*sides, names)
        return
    text = compare.compare(*sides, names)
    assert "1 draws" in text and "| quadratic |" in text and "| digits |" not in text
    assert f"{names[1]} (ValueError: no momentum)" in text.splitlines()[-1]
