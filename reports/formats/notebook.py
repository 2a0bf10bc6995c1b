"""The answer of a report as a piece of HTML for a notebook: the table and sentences, whatever colours are around."""

from __future__ import annotations

from reports.bodies import Answer

__all__ = ["notebook"]


def notebook(answer: Answer) -> str:
    """Return it; whatever comes from records is escaped."""
    import jinja2

    from reports.bodies import RELIANCE

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("notebook.html.j2").render(answer=answer, reliance=RELIANCE)
