"""Evaluating a model from end to end: inputs, memorisation, ranking, statistics, bad input."""

import numpy as np
import pytest

from probmetrics.data import DataError, open_images, read, read_statistics
from probmetrics.encoders import extract


@pytest.mark.parametrize("reader", [read, open_images, read_statistics, extract])
@pytest.mark.parametrize("path", ["", " "])
def test_an_empty_path_is_not_the_current_folder(reader, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.ones((3, 2)))
    with pytest.raises(DataError, match="the path is empty"):
        reader(path)
