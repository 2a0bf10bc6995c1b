import numpy as np
import pytest
import torch

from robust_eval.data import Examples, _npz, open_source
from robust_eval.errors import DataError


def saved(tmp_path, **arrays):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **arrays)
    return open_source(str(path))


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_first_images_are_the_same_however_many_are_read(tmp_path, channels_last, order):
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 5), np.uint8)
    shown = np.asarray(images.transpose(0, 2, 3, 1) if channels_last else images, order=order)
    source = saved(tmp_path, x=shown, y=np.arange(20) % 5)
    some, every = source.test(8), source.test(None)
    assert torch.equal(some.images, torch.from_numpy(images[:8]))
    assert some.fingerprint == every.first(8).fingerprint
    assert some.classes == every.classes == 5


def test_eight_images_are_read_where_all_would_not_fit(tmp_path, monkeypatch):
    source = saved(tmp_path, x=np.zeros((20000, 1, 8, 8), np.uint8), y=np.arange(20000) % 3)
    monkeypatch.setattr(_npz, "available", lambda _: 10**6)
    assert len(source.test(8)) == 8
    with pytest.raises(DataError, match=r"fit into memory, got x of 0.0 GB"):
        source.test(None)


@pytest.mark.parametrize(
    ("array", "advice", "same"),
    [
        (np.random.default_rng(0).random((4, 1, 2, 2)) < 0.5, "use .astype('float32')", lambda x: x.astype("float32")),
        ((np.arange(16).reshape(4, 1, 2, 2) * 273).astype(np.uint16), "(x / 4095).astype('float32')",
         lambda x: (x / 4095).astype("float32")),
        (np.arange(16).reshape(4, 1, 2, 2) * 17, "use .astype('uint8')", lambda x: x.astype("uint8")),
    ],
    ids=["bool", "uint16", "int64"],
)  # fmt: skip
def test_advice_on_another_type_leads_to_the_same_images(tmp_path, array, advice, same):
    with pytest.raises(DataError) as caught:
        saved(tmp_path, x=array, y=np.arange(4)).test(None)
    assert advice in str(caught.value)
    pixels = saved(tmp_path, x=same(array), y=np.arange(4)).test(None).pixels()
    white = {np.dtype(bool): 1, np.dtype(np.uint16): 4095}.get(array.dtype, 255)
    assert torch.allclose(pixels, torch.from_numpy(array.astype("float32")) / white)


def test_pixels_a_rounding_outside_are_clipped_and_counted(caplog):
    images = torch.tensor([0.5, 1.000001, -0.000001, 1.0]).view(4, 1, 1, 1)
    examples = Examples(images, torch.arange(4), 4, "mine")
    assert examples.pixels().flatten().tolist() == [0.5, 1, 0, 1]
    assert "mine: 2 of 4 values lie a rounding outside [0, 1]" in caplog.text
    assert images.max() > 1  # what was given is not written to


def test_pixels_further_outside_are_refused():
    with pytest.raises(DataError, match=r"expected pixels in \[0, 1\]"):
        Examples(torch.tensor([0.5, 1.001]).view(2, 1, 1, 1), torch.arange(2), 2)
