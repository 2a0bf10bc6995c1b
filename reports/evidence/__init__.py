"""A page of evidence: what was measured, against which threat, in the terms of laws and standards, and what was not."""

from reports.evidence.document import EVIDENCE, evidence

__all__ = ["EVIDENCE", "evidence"]
