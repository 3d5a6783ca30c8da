"""Keys of identities: hashed with bcrypt, and verified.

bcrypt reads at most 72 bytes of a key and stops at NUL. Longer keys and keys with NUL are reduced
with HMAC-SHA-256 first, in the format that passlib calls bcrypt_sha256. All other keys are hashed
unchanged, so that hashes made by other programs are valid here.
"""

from __future__ import annotations

import base64
import hmac
import re

import bcrypt

BCRYPT_BYTES = 72
# The hash of a discarded key, to verify against where there is no hash.
DUMMY_HASH = "$2b$12$wSZ/V2LK4Tf6ZISelBEJ/e43jV8HBS5k5uhIDiTQJjAMLBhNszQ0S"

_PLAIN = re.compile(
    r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}", re.ASCII
)
_REDUCED = re.compile(
    r"\$bcrypt-sha256\$v=2,t=2b,r=(\d{1,2})\$([./A-Za-z0-9]{22})\$([./A-Za-z0-9]{31})", re.ASCII
)
# Finds the cost in either format, for PostgreSQL.
ROUNDS_PATTERN = r"^\$(?:2[aby]\$|bcrypt-sha256\$v=2,t=2b,r=)(\d\d?)\$"


def hash_key(key: str) -> str:
    """Return the hash of a key, with a new salt.

    Parameters
    ----------
    key : str
        Any text, of any length.

    Returns
    -------
    str
        The hash, to be stored instead of the key.

    Raises
    ------
    ValueError
        If the key is empty.
    """
    if not key:
        raise ValueError("the key is empty; choose another one")
    secret, setting = _bytes(key), bcrypt.gensalt().decode()
    if _is_read_whole(secret):
        return bcrypt.hashpw(secret, setting.encode()).decode()
    _, _, rounds, salt = setting.split("$")
    hashed = bcrypt.hashpw(_reduced(secret, salt), setting.encode()).decode()
    return f"$bcrypt-sha256$v=2,t=2b,r={int(rounds)}${salt}${hashed.removeprefix(setting)}"


def verify_key(key: str, hashed_key: str) -> bool:
    """Check whether a hash is that of a key.

    Parameters
    ----------
    key : str
        The key to verify.
    hashed_key : str
        The stored hash.

    Returns
    -------
    bool
        ``False`` for a text that is not a hash, after the same time.
    """
    secret = _bytes(key)
    parts = _REDUCED.fullmatch(hashed_key)
    if parts is not None:
        rounds, salt, digest = parts.groups()
        secret, hashed_key = _reduced(secret, salt), f"$2b${int(rounds):02}${salt}{digest}"
    is_hash, is_whole = _PLAIN.fullmatch(hashed_key) is not None, _is_read_whole(secret)
    # bcrypt runs in any case, so that the duration reveals nothing.
    matches = bcrypt.checkpw(
        secret if is_whole else b"", (hashed_key if is_hash else DUMMY_HASH).encode()
    )
    return matches and is_hash and is_whole


def rounds_of(hashed_key: str) -> int | None:
    """Return the cost of a hash, as the logarithm of the work; ``None`` if it is not a hash."""
    found = _PLAIN.fullmatch(hashed_key) or _REDUCED.fullmatch(hashed_key)
    return int(found[1]) if found and 4 <= int(found[1]) <= 31 else None


def spend_rounds(done: int | None, total: int) -> None:
    """Run the rounds that remain of `total`.

    Parameters
    ----------
    done : int or None
        The cost of the verification already done; ``None`` if there was none.
    total : int
        The cost to reach, both as the logarithm of the work.
    """
    # 2**done + 2**done + 2**(done + 1) + ... + 2**(total - 1) = 2**total
    for rounds in [total] if done is None else range(done, total):
        bcrypt.checkpw(b"", f"$2b${rounds:02}${DUMMY_HASH[7:]}".encode())


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _is_read_whole(secret: bytes) -> bool:
    return len(secret) <= BCRYPT_BYTES and b"\0" not in secret


def _reduced(secret: bytes, salt: str) -> bytes:
    return base64.b64encode(hmac.digest(salt.encode(), secret, "sha256"))
