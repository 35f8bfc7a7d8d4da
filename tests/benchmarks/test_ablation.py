"""Taking a part out of the law takes out that part."""

import subprocess
import sys

import pytest

from benchmarks import ablation, cells, workloads


@pytest.mark.parametrize("part", ablation.PARTS)
def test_without_a_part_the_law_is_another_one_that_still_imports(part, tmp_path):
    folder = ablation.without(*ablation.PARTS[part], tmp_path)
    assert cells.law_hash(folder) != cells.law_hash()
    module, line = ablation.PARTS[part]
    name = line.split(" = ")[0]
    before = (cells.ROOT / "adaptive_optax" / f"{module}.py").read_text()
    assert name in before  # it replaces something


def test_a_copy_is_what_its_child_imports(tmp_path):
    folder = ablation.without("supervise/audit", "WARMUP_STEPS = 1", tmp_path)
    code = "from adaptive_optax.supervise import audit; print(audit.WARMUP_STEPS)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "1"


def test_no_held_out_workload_is_looked_at():
    for name in ablation.PAIRS:
        assert workloads.get(name).split == "development"
