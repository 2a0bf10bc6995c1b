"""A network as attacks see it: images in [0, 1] to logits and gradients, its passes counted, its weights held still."""

from robust_eval.classifier.classifier import Classifier, Gradient, Loss, misclassified
from robust_eval.classifier.freeze import frozen, to_eval
from robust_eval.classifier.ledger import Ledger

__all__ = ["Classifier", "Gradient", "Ledger", "Loss", "frozen", "misclassified", "to_eval"]
