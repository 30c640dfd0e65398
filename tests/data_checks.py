"""What every reader owes its user: clean values, or one clear line of error."""

import numpy as np
import pytest

from probmetrics.data import DataError, read

VALUES = np.arange(12.0).reshape(4, 3) ** 2


def refused(source, *parts, error=DataError, **options):
    """The reader refuses, in one line that has all the parts."""
    with pytest.raises(error) as caught:
        read(source, **options)
    message = str(caught.value)
    for part in parts:
        assert str(part) in message, message
    assert message.isprintable()
    assert len(message) < 1000
    return message


def sound_or_refused(path):
    """Whatever is in the file: clean values, or a one-line error that names it; nothing else."""
    message, got = "", None
    try:
        got = read(path)
    except DataError as error:
        message = str(error)
    if got is None:
        assert str(path) in message
        assert message.isprintable()
    else:
        assert got.values.shape == (len(got), len(got.columns))
        assert np.isfinite(got.values).all()
