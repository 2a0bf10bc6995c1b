"""``robust-eval verify``: whether a card is what was signed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_eval.cli._options import path_named
from robust_eval.errors import ConfigError

__all__ = ["verify"]


def verify(
    card: Annotated[Path, typer.Argument(parser=path_named, metavar="CARD", help="A report's card.json.")],
    key: Annotated[
        Path | None,
        typer.Option(
            parser=path_named, metavar="FILE", help="The public key, from whom you trust.  [required]"
        ),
    ] = None,
    signature: Annotated[
        Path | None,
        typer.Option(
            parser=path_named,
            metavar="FILE",
            help="The signature. Default: beside the card, with .sig behind its name.",
        ),
    ] = None,
) -> int:
    """Say whether a card is what the holder of a key signed with `report --sign`; nothing of the card is believed."""
    from reports.exports.signature import fingerprint, is_signed, public_key
    from robust_eval.cli._console import open_console, open_log, say
    from robust_eval.config.card import LARGEST
    from robust_eval.paths import is_file, shown, what_is

    if key is None:
        raise ConfigError("--key: expected the public key of whoever signed, got none; give --key FILE")
    known = public_key(key)
    beside = card.with_name(f"{card.name}.sig") if signature is None else signature
    for what, path in (("card", card), ("signature", beside)):
        if not is_file(path):
            hint = "; `report --sign KEY` writes it" if what == "signature" else ""
            raise ConfigError(f"{shown(path)}: expected a {what}, got {what_is(path)}{hint}")
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{shown(path)}: expected a {what}, got a file of more than {LARGEST:,} bytes")
    who = f"the holder of {shown(key)} (ed25519 {fingerprint(known)})"
    if is_signed(known, card.read_bytes(), beside.read_bytes()):
        say(open_console(), f"{shown(card)}: signed by {who}", style="green")
        return 0
    told = f"{shown(card)}: NOT what {who} signed: the card was changed, or another key signed it"
    say(open_log(always=True), told, style="bold red")
    return 1
