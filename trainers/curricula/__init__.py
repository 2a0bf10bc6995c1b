"""Which images a training step sees, in which order and with which weight."""
