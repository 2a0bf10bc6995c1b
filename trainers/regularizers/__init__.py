"""Training losses, one file each, found by name."""
