"""Data sets: one file each, found by name or by path; :class:`Examples` is what they all give."""

import sys
from pathlib import Path

from robust_eval.data._examples import Examples as Examples
from robust_eval.data._examples import as_pixels as as_pixels
from robust_eval.data._source import Source as Source
from robust_eval.errors import ConfigError, DataError, near
from robust_eval.registry import build, discover, names

__all__ = ["Examples", "Source", "as_pixels", "open_source"]

discover(sys.modules[__name__])


def open_source(name: str, *, size: int | None = None) -> Source:
    """Return the source of this name: a registered set, a ``.npz`` file, or a folder of image folders.

    ``size`` is the side to which a folder's images are resized and centre-cropped. Raises ``ConfigError`` for
    an unknown name and ``DataError`` for a path that is missing or of another kind.
    """
    from robust_eval.data.arrays import Arrays
    from robust_eval.data.folder import Folder

    if size is not None and (name in names("data") or not Path(name).is_dir()):
        raise ConfigError(f"data {name!r}: size is for image folders only; leave it out")
    if name in names("data"):
        source: Source = build("data", name, {})
        return source
    path = Path(name)
    if path.is_dir():
        return Folder(path=path, size=size)
    if path.suffix.lower() == ".npz":
        if not path.exists():
            raise DataError(f"data: no file {name}; give the path of an existing .npz file")
        return Arrays(path=path)
    if path.exists():
        raise DataError(
            f"data {name}: expected a .npz file or a folder of images, got {path.suffix or 'a file'}"
        )
    if len(path.parts) > 1:
        raise DataError(f"data: no file or folder {name}; give the path of a .npz file or an image folder")
    raise ConfigError(
        f"unknown data {name!r}{near(name, names('data'))}; "
        f"known: {', '.join(names('data'))}, or the path of a .npz file or an image folder"
    )
