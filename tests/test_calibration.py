"""A reduced grid of the calibration study: every test on tied data and on three points."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom

from probmetrics.twosample import locations

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
REPETITIONS = 4  # per test; the bound is over all tests of a condition together


@pytest.fixture(scope="module")
def study():
    """The study as a module."""
    sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("calibration", BENCHMARKS / "calibration.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["calibration"] = module
    threads, steps = torch.get_num_threads(), locations.STEPS
    torch.set_num_threads(1)
    spec.loader.exec_module(module)
    yield module
    torch.set_num_threads(threads)
    locations.STEPS = steps  # the study shortens it
    sys.path.remove(str(BENCHMARKS))
    del sys.modules["calibration"]


@pytest.mark.parametrize("name", ["binary", "n = 3"])
def test_tests_keep_their_level(study, name):
    condition = next(c for c in study.CONDITIONS if c.name == name)
    pvalues = [
        study.run(case, condition, REPETITIONS, seed=3)
        for case in study.CASES
        if study.applies(case, condition)
    ]
    each = np.array(pvalues)
    assert ((each > 0) & (each <= 1)).all()
    for level in (0.05, 0.1, 0.3):
        rejected = int((each <= level + 1e-12).sum())
        assert rejected <= binom.ppf(0.999, each.size, level), level


def test_the_committed_table_has_no_cell_above_its_bound(study):
    cells = json.loads((BENCHMARKS / "results" / "calibration.json").read_text())["cells"]
    assert len(cells) > 150
    for cell in cells:
        assert cell["repetitions"] >= 1000
        for level in study.LEVELS:
            count = cell["rejections"][str(level)]
            assert count <= binom.ppf(1 - study.RISK, cell["repetitions"], level), cell
