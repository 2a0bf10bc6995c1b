"""A network as attacks see it: images in [0, 1] to logits and gradients, its passes counted, its weights held still."""

from robust_eval.classifier.classifier import Classifier, Gradient, Loss
from robust_eval.classifier.freeze import frozen, to_eval
from robust_eval.classifier.given import answering, device_of
from robust_eval.classifier.ledger import Batches, Ledger, condensed
from robust_eval.classifier.outputs import misclassified
from robust_eval.classifier.wrapped import ModelLike, as_classifier

__all__ = [
    "Batches",
    "Classifier",
    "Gradient",
    "Ledger",
    "Loss",
    "ModelLike",
    "answering",
    "as_classifier",
    "condensed",
    "device_of",
    "frozen",
    "misclassified",
    "to_eval",
]
