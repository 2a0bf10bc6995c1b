import io

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def png():
    """Makes a PNG file of 2 x 2 pixels of one grey level in colour, as bytes."""

    def make(level: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(np.full((2, 2, 3), level, np.uint8)).save(file, "PNG")
        return file.getvalue()

    return make


@pytest.fixture
def pairs():
    """Gives the pairs of grey level and label of a set: each format is filled with level = 10 * number."""

    def of(examples):
        levels = examples.images[slice(None)][:, 0, 0, 0].tolist()
        return sorted(zip(levels, examples.labels.tolist(), strict=True))

    return of
