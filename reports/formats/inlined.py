"""What the page carries inside: its style and script, and the policy under which nothing else runs or is fetched.

The policy names the scripts by their SHA-256, so that a text that found its way into the page as markup still could not
run. Styles are allowed as they stand: drawings set theirs on each mark.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["asset", "policy", "script"]


def asset(name: str) -> Markup:
    """Return a file of ``reports/templates`` to be put into the page as it is."""
    import markupsafe

    return markupsafe.Markup((resources.files("reports") / "templates" / name).read_text(encoding="utf-8"))


def script(text: str) -> Markup:
    """Return JavaScript that no HTML parser takes for the end of a script or for a comment."""
    import markupsafe

    return markupsafe.Markup(
        text.replace("</script", r"<\/script").replace("</SCRIPT", r"<\/SCRIPT").replace("<!--", r"<\!--")
    )


def policy(scripts: Iterable[str]) -> str:
    """Return a Content-Security-Policy that lets these scripts run and nothing else."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts
    )
    return (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src {hashes or chr(39) + 'none' + chr(39)}"
    )
