"""What is measured, what was measured, where it is kept, and the long table of it."""
