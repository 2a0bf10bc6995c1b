"""The largest numbers that options and fields take: beyond them a number is mistyped rather than meant."""

__all__ = ["LARGEST", "LAST_SEED", "MOST"]

MOST = 10_000_000
"""More steps, draws or images than any machine takes."""
LARGEST = 1e9
"""No length, rate or weight reaches it."""
LAST_SEED = 2**63 - 1
"""What a column of a table of records holds."""
