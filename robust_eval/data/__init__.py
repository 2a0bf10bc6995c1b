"""Data sets: one file each, found by name or by path; :class:`Examples` is what they all give."""

import dataclasses
import sys
from pathlib import Path

import pydantic

from robust_eval.data._altered import Altered, NoisyLabels
from robust_eval.data._class_folders import ClassOrder as ClassOrder
from robust_eval.data._class_folders import other_order as other_order
from robust_eval.data._examples import Examples as Examples
from robust_eval.data._examples import as_pixels as as_pixels
from robust_eval.data._files import Interpolation as Interpolation
from robust_eval.data._files import Resize as Resize
from robust_eval.data._made import NOISE as NOISE
from robust_eval.data._made import noise as noise
from robust_eval.data._made import require_same_shape as require_same_shape
from robust_eval.data._made import resized as resized
from robust_eval.data._source import Source as Source
from robust_eval.data._unlabelled import without_labels as without_labels
from robust_eval.errors import ConfigError, DataError, near
from robust_eval.paths import is_folder, misnamed, shown, what_is
from robust_eval.registry import build, discover, explain, find, names

__all__ = [
    "NOISE",
    "ClassOrder",
    "Examples",
    "Interpolation",
    "Resize",
    "Source",
    "as_pixels",
    "noise",
    "open_source",
    "other_order",
    "require_same_shape",
    "resized",
    "without_labels",
]

discover(sys.modules[__name__])


def open_source(
    name: str,
    *,
    size: int | None = None,
    resize: Resize | None = None,
    interpolation: Interpolation | None = None,
    class_order: ClassOrder | None = None,
    per_class: int | None = None,
    label_noise: float = 0.0,
    noisy_labels: NoisyLabels = "any",
    seed: int = 0,
) -> Source:
    """Return the source of this name: a registered set, a ``.npz`` file, or a folder of image folders.

    ``size`` is the side to which a folder's images are resized and centre-cropped, ``resize`` the shorter side before
    the crop (``squash`` resizes both sides to ``size``), ``interpolation`` how, and ``class_order`` how its classes
    are numbered where their names are all numbers. The other options change training
    images only: how many of each class are kept, what part of the labels is replaced by ``any`` or an ``other`` class,
    and the seed of both. Raises ``ConfigError`` for an unknown name or an option out of range and ``DataError`` for a
    path that is missing or of another kind.
    """
    source = _opened(name, size, class_order)
    if resize is not None or interpolation is not None:
        source = _resized_so(name, size, resize, interpolation, class_order)
    if per_class is None and label_noise == 0:
        return source
    try:
        return Altered(
            source=source, per_class=per_class, label_noise=label_noise, noisy_labels=noisy_labels, seed=seed
        )
    except pydantic.ValidationError as error:
        raise ConfigError(explain(error, Altered, where=f"data {name!r}")) from None


def _resized_so(
    name: str,
    size: int | None,
    resize: Resize | None,
    interpolation: Interpolation | None,
    class_order: ClassOrder | None,
) -> Source:
    from robust_eval.data.folder import Folder

    if name in names("data") or not is_folder(name):
        raise ConfigError(
            f"data {shown(name)!r}: resize and interpolation are for image folders only; leave them out"
        )
    if size is None or (isinstance(resize, int) and resize < size):
        raise ConfigError(
            f"data {shown(name)!r}: expected a size of at most resize ({resize}), which is cropped, got {size}"
        )
    return Folder(
        path=Path(name),
        size=size,
        class_order=class_order,
        resize=resize,
        interpolation=interpolation or "bilinear",
    )


def _opened(name: str, size: int | None, class_order: ClassOrder | None) -> Source:
    from robust_eval.data.arrays import Arrays
    from robust_eval.data.folder import Folder

    registered = name in names("data")
    sized = registered and "size" in {field.name for field in dataclasses.fields(find("data", name))}
    if size is not None and not sized and (registered or not is_folder(name)):
        raise ConfigError(f"data {shown(name)!r}: size is for image folders only; leave it out")
    if class_order is not None and (registered or not is_folder(name)):
        raise ConfigError(f"data {shown(name)!r}: class_order is for image folders only; leave it out")
    if registered:
        source: Source = build("data", name, {} if size is None else {"size": size})
        return source
    if (problem := misnamed(name)) is not None:
        raise DataError(f"data: {problem}")
    path, lies = Path(name), what_is(name)
    if lies == "a folder":
        if path.resolve() == Path(path.resolve().anchor):
            raise DataError(
                f"data {name}: expected a folder of images, got that of all files; name one in it"
            )
        if class_order is not None:
            return Folder(path=path, size=size, class_order=class_order)
        return _imagenet_v2(path, size) or Folder(path=path, size=size)
    if lies not in ("a file", "none"):
        raise DataError(f"data {shown(name)}: expected a .npz file or a folder of images, got {lies}")
    if path.suffix.lower() == ".npz":
        if lies == "none":
            raise DataError(f"data: no file {shown(name)}; give the path of an existing .npz file")
        return Arrays(path=path)
    if lies == "a file":
        raise DataError(
            f"data {shown(name)}: expected a .npz file or a folder of images, got {path.suffix or 'a file'}"
        )
    if len(path.parts) > 1:
        raise DataError(
            f"data: no file or folder {shown(name)}; give the path of a .npz file or an image folder"
        )
    raise ConfigError(
        f"unknown data {shown(name)!r}{near(name, names('data'))}; "
        f"known: {', '.join(names('data'))}, or the path of a .npz file or an image folder"
    )


def _imagenet_v2(path: Path, size: int | None) -> Source | None:
    """Return the source of an unpacked ImageNet-v2, which is cropped in its own way; ``None`` for other folders."""
    from robust_eval.data._class_folders import sub_folders
    from robust_eval.data.imagenet_v2 import ImageNetV2, ImageNetV2Threshold, ImageNetV2TopImages

    called, classes = path.resolve().name, sub_folders(path)
    if not called.startswith("imagenetv2-") or not classes or not all(name.isdecimal() for name in classes):
        return None
    kinds = (ImageNetV2, ImageNetV2Threshold, ImageNetV2TopImages)
    kind = next((kind for kind in kinds if called.startswith(kind.folder)), ImageNetV2)
    return kind(root=path) if size is None else kind(root=path, size=size)
