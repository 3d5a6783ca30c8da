"""Keys of identities: hashed with bcrypt, and verified.

bcrypt takes 72 bytes at most and treats NUL as if it stood at the end of the key. Keys that it would not see whole are shortened with
HMAC-SHA-256 first, in the format that passlib calls bcrypt_sha256; all others are hashed as they are, so that hashes made elsewhere
are valid here.
"""

from __future__ import annotations

import base64
import hmac
import re

import bcrypt

BCRYPT_BYTES = 72
# The hash of a key that was thrown away: what is verified where there is nothing to verify.
DUMMY_HASH = "$2b$12$wSZ/V2LK4Tf6ZISelBEJ/e43jV8HBS5k5uhIDiTQJjAMLBhNszQ0S"

_PLAIN = re.compile(
    r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}", re.ASCII
)
_SHORTENED = re.compile(
    r"\$bcrypt-sha256\$v=2,t=2b,r=(\d{1,2})\$([./A-Za-z0-9]{22})\$([./A-Za-z0-9]{31})", re.ASCII
)


def hash_key(key: str) -> str:
    """Hash a key, with a salt of its own.

    Parameters
    ----------
    key : str
        Any text, of any length.

    Returns
    -------
    str
        What to store in place of the key.

    Raises
    ------
    ValueError
        If the key is empty.
    """
    if not key:
        raise ValueError("the key may not be empty")
    secret, setting = _bytes(key), bcrypt.gensalt().decode()
    if _is_seen_whole(secret):
        return bcrypt.hashpw(secret, setting.encode()).decode()
    _, _, rounds, salt = setting.split("$")
    hashed = bcrypt.hashpw(_shortened(secret, salt), setting.encode()).decode()
    return f"$bcrypt-sha256$v=2,t=2b,r={int(rounds)}${salt}${hashed.removeprefix(setting)}"


def verify_key(key: str, hashed_key: str) -> bool:
    """Tell whether a key was hashed to this; what is not a hash is nobody's, and takes as long to verify.

    Parameters
    ----------
    key : str
        What was presented.
    hashed_key : str
        What was stored.
    """
    secret = _bytes(key)
    parts = _SHORTENED.fullmatch(hashed_key)
    if parts is not None:
        rounds, salt, digest = parts.groups()
        secret, hashed_key = _shortened(secret, salt), f"$2b${int(rounds):02}${salt}{digest}"
    sound = _PLAIN.fullmatch(hashed_key) is not None and _is_seen_whole(secret)
    # The work is done in any case, so that its duration tells nothing.
    return (
        bcrypt.checkpw(secret if sound else b"", (hashed_key if sound else DUMMY_HASH).encode())
        and sound
    )


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _is_seen_whole(secret: bytes) -> bool:
    return len(secret) <= BCRYPT_BYTES and b"\0" not in secret


def _shortened(secret: bytes, salt: str) -> bytes:
    return base64.b64encode(hmac.digest(salt.encode(), secret, "sha256"))
