"""What each kind of method must be able to do.

A *method* (attack, corruption, defense, architecture, regularizer, curriculum, analysis) is a frozen dataclass whose
fields are the hyper-parameters of its paper, with the paper's defaults, and it has one algorithm method.
"""

from robust_eval.methods.analysis import Analysis, Batch, Plot
from robust_eval.methods.attack import Attack
from robust_eval.methods.corruption import Corruption
from robust_eval.methods.curriculum import (
    FORWARD,
    Choice,
    Curriculum,
    Order,
    Outputs,
    Reference,
    Task,
    Trial,
    loss_alone,
)
from robust_eval.methods.defense import Certificate, Defense
from robust_eval.methods.passes import FEW, Passes, walk
from robust_eval.methods.training import Architecture, Regularizer, Stage

__all__ = [
    "FEW",
    "FORWARD",
    "Analysis",
    "Architecture",
    "Attack",
    "Batch",
    "Certificate",
    "Choice",
    "Corruption",
    "Curriculum",
    "Defense",
    "Order",
    "Outputs",
    "Passes",
    "Plot",
    "Reference",
    "Regularizer",
    "Stage",
    "Task",
    "Trial",
    "loss_alone",
    "walk",
]
