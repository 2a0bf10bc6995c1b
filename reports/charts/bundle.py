"""The scripts that let a reader of the page point at marks: Vega, Vega-Lite and Vega-Embed in one.

They are fetched from nowhere. Nothing of them makes code of text, so they run under a policy without ``unsafe-eval``:
expressions are interpreted.
"""

from __future__ import annotations

from functools import cache

__all__ = ["FUNCTION", "bundle"]

FUNCTION = "drawChart"
"""What the scripts add to ``window``: ``drawChart(element, spec)`` draws a spec, given as text, into an element.

It returns a promise that is kept when the chart stands there, and until then the element may show the drawing.
"""
_SNIPPET = f"""
window.vegaEmbed = vegaEmbed;
window.{FUNCTION} = (element, spec) => vegaEmbed(element, JSON.parse(spec), {{
  ast: true, renderer: "svg", actions: false, defaultStyle: false,
}});
"""


@cache
def bundle() -> str:
    """Return the text of a ``script`` element; made once in a process, in a second or two."""
    import vl_convert

    made: str = vl_convert.javascript_bundle(_SNIPPET)
    # what would end the element, in a string or an expression of the script
    return made.replace("</script", r"<\/script").replace("<!--", r"\x3c!--")
