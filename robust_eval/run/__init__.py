"""Many cells: what has no record yet is measured, and what that costs."""
