"""Trains a classifier with each regularizer, by one recipe and with one budget."""

import trainers.curricula
import trainers.regularizers
from robust_eval.registry import discover
from trainers.loop import train as train
from trainers.watch import REMEMBERED as REMEMBERED

__all__ = ["REMEMBERED", "train"]

discover(trainers.regularizers)
discover(trainers.curricula)
