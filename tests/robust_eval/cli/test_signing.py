"""A card that is signed is checked with the public key; a changed card or another key is exit code 1, no key is 2."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

import reports
import robust_eval


def private(key, form=PrivateFormat.PKCS8, lock=None):
    return key.private_bytes(Encoding.PEM, form, NoEncryption() if lock is None else lock)


def public(key, encoding=Encoding.PEM, form=PublicFormat.SubjectPublicKeyInfo):
    return key.public_key().public_bytes(encoding, form)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run, and keys of several kinds."""
    folder = tmp_path_factory.mktemp("signed")
    x, y = np.random.default_rng(0).random((12, 1, 4, 4), dtype=np.float32), np.arange(12) % 2
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
    robust_eval.evaluate(net, x, y, attacks="none", checks="off", out=folder / "run", progress=False)
    key, other = (Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2))
    rsa = generate_private_key(65537, 2048)
    files = {
        "sign.key": private(key),
        "sign.pub": public(key),
        "ssh.key": private(key, PrivateFormat.OpenSSH),
        "ssh.pub": public(key, Encoding.OpenSSH, PublicFormat.OpenSSH),
        "other.pub": public(other),
        "locked.key": private(key, lock=BestAvailableEncryption(b"secret")),
        "rsa.key": private(rsa),
        "rsa.pub": public(rsa),
        "text": b"no key",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    reports.write([folder / "run"], folder / "report", sign=folder / "sign.key")
    return folder


@pytest.fixture
def signed(place, tmp_path, monkeypatch):
    """A copy of a signed card."""
    monkeypatch.chdir(place)
    for name in ("card.json", "card.json.sig"):
        shutil.copy(place / "report" / name, tmp_path / name)
    return tmp_path / "card.json"


def test_a_card_is_what_the_holder_of_the_key_signed(cli, signed):
    for key in ("sign.pub", "ssh.pub"):
        done = cli("verify", signed, "--key", key)
        assert (done.code, done.err) == (0, "") and "signed by the holder of" in done.out
    assert (signed.parent / "card.json.sig").stat().st_size == 64


def test_a_changed_card_and_another_key_are_exit_code_1(cli, signed):
    wrong = cli("verify", signed, "--key", "other.pub")
    assert (wrong.code, wrong.out) == (1, "") and "NOT what the holder of other.pub" in wrong.err
    signed.write_bytes(signed.read_bytes().replace(b'"n": 12', b'"n": 13', 1))
    assert cli("verify", signed, "--key", "sign.pub").code == 1
    (signed.parent / "card.json.sig").write_bytes(b"short")
    assert cli("verify", signed, "--key", "sign.pub").code == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_says_the_same(signed):
    command = ("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "sign.pub", "-rawin", "-in", signed)
    done = subprocess.run([*command, "-sigfile", f"{signed}.sig"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "Signature Verified Successfully")


def test_a_key_of_openssh_signs_the_same_and_an_unsigned_report_leaves_no_older_signature(cli, place, signed):
    done = cli("report", "run", "--out", "report", "--sign", "ssh.key")
    assert done.code == 0 and "signed: report/card.json.sig" in done.out
    assert (place / "report/card.json.sig").read_bytes() == signed.with_name("card.json.sig").read_bytes()
    assert cli("report", "run", "--out", "report").code == 0
    done = cli("verify", "report/card.json", "--key", "sign.pub")
    assert done.code == 2 and "expected a signature, got none; `report --sign KEY` writes it" in done.err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["verify", "report/card.json"], "--key: expected the public key of whoever signed, got none"),
        (["verify", "report/card.json", "--key", "no"], "expected a file with a key, got none"),
        (
            ["verify", "report/card.json", "--key", "sign.key"],
            "expected the public key, got a private one",
        ),
        (["verify", "report/card.json", "--key", "rsa.pub"], "got a key of another kind"),
        (["verify", "report/card.json", "--key", "text"], "expected an Ed25519 public key, got none"),
        (["verify", "run/card.json", "--key", "sign.pub"], "expected a card, got none"),
        (["report", "run", "--sign", "sign.pub"], "expected a private key, got a public one"),
        (["report", "run", "--sign", "locked.key"], "expected a key without a passphrase, got one with"),
        (["report", "run", "--sign", "rsa.key"], "got a key of another kind"),
        (["report", "run", "--sign", "."], "expected a file with a key, got a folder"),
    ],
)
def test_wrong_keys_are_one_line_and_exit_code_2(cli, place, monkeypatch, arguments, line):
    monkeypatch.chdir(place)
    done = cli(*arguments)
    assert (done.code, done.out) == (2, "") and line in done.err and done.err.count("\n") == 1


def test_without_the_library_the_extra_is_named(cli, place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for arguments in (
        ("verify", "report/card.json", "--key", "sign.pub"),
        ("report", "run", "--sign", "sign.key"),
    ):
        done = cli(*arguments)
        assert (
            done.code == 2 and "pip install 'robust-eval[signing]'" in done.err and done.err.count("\n") == 1
        )
