"""Images in the rows of an Arrow table, as Parquet files and Hugging Face's ``datasets`` hold them.

The column of images is the one that the file's own notes call an image, else one called ``image``, ``img``, ``images``,
``jpg``, ``png`` or ``bytes``; that of labels the one noted as class labels, else ``label``, ``labels``, ``fine_label``,
``class``, ``cls``, ``target`` or ``y``. Images are encoded files (PNG, JPEG), as bytes or as ``{bytes, path}``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from robust_eval.data._class_folders import File
from robust_eval.data._contents import Listing
from robust_eval.data._labels import numbered
from robust_eval.errors import DataError, near

__all__ = ["DAMAGED", "IMAGES", "LABELS", "listing", "readable_columns"]

IMAGES = ("image", "img", "images", "jpg", "png", "bytes")
LABELS = ("label", "labels", "fine_label", "class", "cls", "target", "y")
DAMAGED = (OSError, pa.ArrowInvalid, pa.ArrowException, EOFError, ValueError)
"""What a damaged file is answered with."""


class Rows(NamedTuple):
    """Encoded images in a column, each called by the number of its row."""

    column: pa.ChunkedArray

    def open(self, path: Path) -> BytesIO:
        """Return the bytes of a row; raises ``OSError`` where it has none."""
        return BytesIO(self._bytes(path))

    def size(self, path: Path) -> int:
        """Return how many bytes an image takes."""
        return len(self._bytes(path))

    def _bytes(self, path: Path) -> bytes:
        value = self.column[int(path.name)].as_py()
        found = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(found, bytes):
            raise OSError("no bytes")
        return found


def readable_columns(schema: pa.Schema, where: str) -> tuple[str, str]:
    """Return the names of the columns of images and of labels; raises ``DataError`` where one is not to be found."""
    kinds = {name: feature.get("_type") for name, feature in _features(schema).items()}
    image = _column(schema, kinds, "Image", IMAGES, where, "images")
    label = _column(schema, kinds, "ClassLabel", LABELS, where, "labels")
    kind = schema.field(image).type
    inside = (
        kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    )
    if not (pa.types.is_binary(inside) or pa.types.is_large_binary(inside)):
        raise DataError(
            f"{where}: expected encoded images (PNG, JPEG) as bytes in column {image!r}, got {kind}; "
            "save the images' files in it, or give their pixels as .npy or .npz"
        )
    labelled = schema.field(label).type
    if not (pa.types.is_integer(labelled) or _is_text(labelled)):
        raise DataError(
            f"{where}: expected whole numbers or names of classes as labels, got {labelled} in column {label!r}; "
            "save them as whole numbers"
        )
    return image, label


def listing(table: pa.Table, root: Path, where: str) -> Listing:
    """Return the images of a table of both columns; raises ``DataError`` for labels that are none."""
    image, label = readable_columns(table.schema, where)
    if not len(table):
        raise DataError(f"{where}: expected rows, got a table without any; save the images in it")
    feature = _features(table.schema).get(label, {})
    names = feature.get("names") if isinstance(feature.get("names"), list) else None
    values = table.column(label).to_pylist()
    found = numbered(values, where=where, at="row", names=None if names is None else list(map(str, names)))
    files = [File(root / str(row), number) for row, number in enumerate(found.labels)]
    return Listing(files, found.classes, found.names, root, Rows(table.column(image)))


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return what Hugging Face's ``datasets`` noted of the columns; nothing where it did not write the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _column(
    schema: pa.Schema, kinds: dict[str, Any], noted: str, known: Sequence[str], where: str, what: str
) -> str:
    own = [name for name in schema.names if kinds.get(name) == noted]
    among = own or schema.names
    found = [name for name in known if name in among] or own
    if found:
        return found[0]
    close = next((near(name.lower(), known) for name in schema.names if near(name.lower(), known)), "")
    raise DataError(
        f"{where}: expected a column of {what} called {', '.join(known[:-1])} or {known[-1]}, got the columns "
        f"{', '.join(map(repr, schema.names[:8])) or 'none'}; rename one{close}"
    )


def _is_text(kind: pa.DataType) -> bool:
    texts = (pa.types.is_string, pa.types.is_large_string)
    return any(test(kind) for test in texts) or (pa.types.is_dictionary(kind) and _is_text(kind.value_type))
