"""``onnx:FILE``: an ONNX graph, made a network of torch, so that it has gradients wherever its operators have.

By onnx2torch, whose last release is of August 2024: no converter that gives gradients is kept better (onnx2pytorch is
as old and knows fewer operators). A graph of another version of the operators is converted to one that it knows.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

from torch import nn

from robust_eval.errors import THEIRS, CheckpointError
from robust_eval.models._content import one_line
from robust_eval.models.zoo._entry import Brought, Wanted, behind, package
from robust_eval.models.zoo._program import file_of, program

log = logging.getLogger(__name__)

KNOWN = 17
"""A version of the operators that the converter knows."""


@behind("onnx", about="FILE (an ONNX graph, which is run; extra onnx)", path=True, program=True)
def _bring(wanted: Wanted) -> Brought:
    path = file_of(wanted)
    onnx = package("onnx", extra="onnx", spec=wanted.spec)
    converter = package("onnx2torch", extra="onnx", spec=wanted.spec)
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except THEIRS as error:
        raise CheckpointError(
            f"{wanted.spec}: expected an ONNX graph, got none that can be read ({one_line(error)})"
        ) from None
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise CheckpointError(
            f"{wanted.spec}: expected a graph from one batch of images to one of logits, got {len(inputs)} inputs and "
            f"{len(model.graph.output)} outputs; export the classifier alone"
        )
    batch = inputs[0].type.tensor_type.shape.dim
    size = batch[0].dim_value if batch else 0
    return program(wanted, _converted(wanted, onnx, converter, model), path, batch=size or None)


def _converted(wanted: Wanted, onnx: Any, converter: Any, model: Any) -> nn.Module:
    for node in model.graph.node:
        if node.op_type == "Reshape":
            # torch's exporter sets it, the converter refuses it, and it changes nothing of what is not empty
            kept = [attribute for attribute in node.attribute if attribute.name != "allowzero"]
            del node.attribute[:]
            node.attribute.extend(kept)
    try:
        made: nn.Module = converter.convert(model)
    except THEIRS as error:
        first = one_line(error)
    else:
        return made
    importlib.import_module("onnx.version_converter")
    try:
        made = converter.convert(onnx.version_converter.convert_version(model, KNOWN))
    except THEIRS as error:
        raise CheckpointError(
            f"{wanted.spec}: cannot be made a network of torch ({first}; as version {KNOWN}: {one_line(error)}); "
            f"export it with older operators (opset_version={KNOWN}), or give its own code as file.py:factory"
        ) from None
    log.warning("%s: its operators were converted to version %s", wanted.spec, KNOWN)
    return made
