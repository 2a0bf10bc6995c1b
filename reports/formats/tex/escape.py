r"""Text as LaTeX with T1 fonts shows it: nothing in it is a command, and every character compiles with pdflatex.

What T1 has no letter for becomes ``[U+4E2D]``. Long words may be broken, so that a name of 300 letters overflows
nothing; brackets and stars are guarded, since ``\\`` would read one at the beginning of a row as its own.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["GREEK", "PIECE", "drawn", "escaped", "shown"]

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": "'{}",
    "`": r"\textasciigrave{}", "[": "{[}", "]": "{]}", "*": "{*}", "-": "-{}", ",": ",{}", "?": "?{}", "!": "!{}",
    "–": "--", "—": "---", "−": "$-$", "×": r"$\times$", "±": r"$\pm$", "≠": r"$\neq$", "°": r"$^\circ$",
    "∞": r"$\infty$",
    "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$", "→": r"$\to$", "√": r"$\surd$", "✓": r"$\checkmark$",
    "†": r"\textdagger{}", "‡": r"\textdaggerdbl{}", "…": r"\ldots{}", "•": r"\textbullet{}", "·": r"$\cdot$",
    "\u2018": "`{}", "\u2019": "'{}", "“": "``{}", "”": "''{}", "€": r"\texteuro{}", "⁻": r"\textsuperscript{--}",
}  # fmt: skip
_ALONE = {"-": "-", ",": ",", "?": "?", "!": "!", "'": "'"}
"""Signs that need no guard where the next one makes no other sign of them."""
GREEK = {
    **dict(zip("αβγδεζηθικλμνξπρστυφχψω", (
        "alpha", "beta", "gamma", "delta", "varepsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu",
        "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "varphi", "chi", "psi", "omega",
    ), strict=True)),
    **dict(zip("ΓΔΘΛΞΠΣΦΨΩ", (
        "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega",
    ), strict=True)),
}  # fmt: skip
"""Letters that only mathematics has."""
_NOT_T1 = "\u00adĦħĸĿŀŉŦŧ\u017f"
_WORD = 16
"""Letters in a row that a line can do without breaking."""
NARROW = 6
"""The same in a narrow column."""
PIECE = 14
"""Letters after which a long word may be broken where it has no signs."""
_BREAK = r"\allowbreak{}"


def escaped(text: str, *, narrow: bool = False) -> str:
    """Return a text that means nothing to LaTeX; in a ``narrow`` column shorter words may be broken too."""
    longest = NARROW if narrow else _WORD
    return "".join(
        _breakable(word) if len(word) > longest else "".join(map(drawn, _signs(word)))
        for word in re.split(r"( )", shown(text))
    )


def shown(text: str) -> str:
    """Return a text with the characters that can be shown, on one line."""
    composed = unicodedata.normalize("NFC", " ".join(text.split()))
    return "".join(c if _is_known(c) else f"[U+{ord(c):04X}]" for c in composed)


def drawn(signs: str) -> str:
    """Return one character as LaTeX; with the next one behind it where the two would be taken for a third."""
    first, after = signs[0], signs[1:]
    if first in _ALONE and not (after and after in (first, "`")):
        return _ALONE[first]
    if first in GREEK:
        return rf"$\{GREEK[first]}$"
    return _SPECIAL.get(first, first)


def _is_known(c: str) -> bool:
    return " " <= c <= "~" or c in _SPECIAL or c in GREEK or ("\u00a1" <= c <= "\u017e" and c not in _NOT_T1)


def _signs(word: str) -> list[str]:
    """Return each character with the one after it."""
    return [word[i : i + 2] for i in range(len(word))]


def _breakable(word: str) -> str:
    """Let a long word break after its signs, and where it has none after some letters."""
    parts, since = [], 0
    for i, signs in enumerate(_signs(word)):
        parts.append(drawn(signs))
        since += 1
        if i + 1 < len(word) and (since >= PIECE or (since > 2 and not signs[0].isalnum())):
            parts.append(_BREAK)
            since = 0
    return "".join(parts)
