"""A signature of ``card.json``: Ed25519 (RFC 8032) over the bytes of the file, 64 bytes in ``card.json.sig``.

It says that whoever holds the private key signed these bytes, and nothing about whether they are true. Keys are PEM
files without a passphrase, as ``openssl genpkey -algorithm ed25519`` and ``ssh-keygen -t ed25519`` write them. What
``openssl pkeyutl -verify -rawin`` makes of the signature is the same.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robust_eval.errors import ConfigError
from robust_eval.paths import is_file, shown, what_is

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["SIGNATURE", "fingerprint", "is_signed", "private_key", "public_key", "signature"]

SIGNATURE = "card.json.sig"
LARGEST = 1 << 16
"""Bytes of a key."""
_MAKE = "make one with openssl genpkey -algorithm ed25519 -out sign.key"
_MAKE_PUBLIC = "make it with openssl pkey -in sign.key -pubout -out sign.pub"


def private_key(path: Path) -> Ed25519PrivateKey:
    """Read the key that a card is signed with; raises ``ConfigError`` for what is none."""
    _require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    content = _read(path, "--sign", _MAKE)
    if b"PUBLIC KEY" in content or content.startswith(b"ssh-"):
        raise ConfigError(f"--sign {shown(path)}: expected a private key, got a public one")
    key: Any = None
    for load in (load_pem_private_key, load_ssh_private_key):
        try:
            key = load(content, password=None)
        except TypeError:
            raise ConfigError(
                f"--sign {shown(path)}: expected a key without a passphrase, got one with; {_MAKE}"
            ) from None
        except Exception:
            continue
        break
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            f"--sign {shown(path)}: expected an Ed25519 private key in PEM, got {_kind(key)}; {_MAKE}"
        )
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """Read the key that a signature is checked with; raises ``ConfigError`` for what is none."""
    _require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key

    content = _read(path, "--key", _MAKE_PUBLIC)
    if b"PRIVATE KEY" in content:
        raise ConfigError(f"--key {shown(path)}: expected the public key, got a private one; {_MAKE_PUBLIC}")
    key: Any = None
    for load in (load_pem_public_key, load_ssh_public_key):
        try:
            key = load(content)
        except Exception:
            continue
        break
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(
            f"--key {shown(path)}: expected an Ed25519 public key, got {_kind(key)}; {_MAKE_PUBLIC}"
        )
    return key


def signature(key: Ed25519PrivateKey, content: bytes) -> bytes:
    """Return the signature of these bytes."""
    return key.sign(content)


def is_signed(key: Ed25519PublicKey, content: bytes, signed: bytes) -> bool:
    """Whether the signature is of these bytes by the holder of this key."""
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signed, content)
    except InvalidSignature:
        return False
    return True


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return what tells a key from others: the first of the sha256 of its 32 bytes."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def _read(path: Path, option: str, fix: str) -> bytes:
    if not is_file(path):
        raise ConfigError(f"{option} {shown(path)}: expected a file with a key, got {what_is(path)}; {fix}")
    with path.open("rb") as file:
        return file.read(LARGEST)


def _kind(key: Any) -> str:
    return "a key of another kind" if key is not None else "none"


def _require_library() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise ConfigError(
            "signatures need cryptography, which is not installed; pip install 'robust-eval[signing]'"
        ) from None
