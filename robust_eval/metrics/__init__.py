"""Numbers from rows: accuracies, intervals, tests, errors by class and by corruption."""
