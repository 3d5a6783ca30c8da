"""Hashes of keys, including hashes made by other software."""

from __future__ import annotations

import bcrypt
import pytest

from alchemistore.operations.key_hashing import DUMMY_HASH, hash_key, verify_key

# Made with other software: test vectors of bcrypt (one with 72 bytes) and of bcrypt_sha256.
ELSEWHERE = [
    ("password", "$2a$12$GhvMmNVjRW29ulnudl.LbuAnUtN/LRfe1JsBm1Xu6LE3059z5Tr8m"),
    ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
    ("a", "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe"),
    (
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
        "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui",
    ),
    (
        "password",
        "$bcrypt-sha256$v=2,t=2b,r=12$n79VH.0Q2TMWmt3Oqt9uku$Kq4Noyk3094Y2QlB8NdRT8SvGiI4ft2",
    ),
]
KEYS = [
    "a",
    "pässwörd",
    "🔑" * 5,
    'it\'s "quoted" \\ %s {}',
    " spaces \t\n",
    "x" * 72,
    "x" * 73,
    "é" * 36 + "x",
    "long " * 1000,
    "\0",
    "a\0b",
    "half a pair \ud800",
]
NO_HASHES = [
    "",
    "password",
    "$2b$",
    "$2b$04$short",
    "$2b$99$" + DUMMY_HASH[7:],
    DUMMY_HASH + "x",
    "$1$abc$def",
    "$bcrypt-sha256$v=2,t=2b,r=99$n79VH.0Q2TMWmt3Oqt9uku$Kq4Noyk3094Y2QlB8NdRT8SvGiI4ft2",
    "$2b$12$" + "!" * 53,
    "\0",
]


@pytest.mark.parametrize("key", KEYS, ids=ascii)
@pytest.mark.usefixtures("cheap_hashes")
def test_key_matches_its_own_hash_only(key: str) -> None:
    hashed = hash_key(key)
    assert verify_key(key, hashed)
    for other in (
        key + "x",
        key + "\0",
        key[:-1],
        key.swapcase() + "y",
        f"{key}\0{key}",
        key[:72],
        key[:72] + "y",
    ):
        assert other == key or not verify_key(other, hashed)


@pytest.mark.parametrize("key", KEYS, ids=ascii)
@pytest.mark.usefixtures("cheap_hashes")
def test_hash_has_a_salt_of_its_own_and_does_not_show_the_key(key: str) -> None:
    hashed, again = hash_key(key), hash_key(key)
    assert hashed != again
    assert len(key) < 3 or key not in hashed


@pytest.mark.usefixtures("cheap_hashes")
def test_short_key_is_hashed_by_plain_bcrypt() -> None:
    assert bcrypt.checkpw(b"x" * 72, hash_key("x" * 72).encode())
    assert hash_key("x" * 73).startswith("$bcrypt-sha256$v=2,t=2b,r=4$")


@pytest.mark.parametrize(("key", "hashed"), ELSEWHERE)
def test_hash_made_elsewhere_is_valid(key: str, hashed: str) -> None:
    assert verify_key(key, hashed)
    assert not verify_key(key + "x", hashed)


@pytest.mark.usefixtures("cheap_hashes")
@pytest.mark.parametrize("hashed", NO_HASHES)
def test_malformed_hash_matches_no_key(hashed: str) -> None:
    assert not verify_key("password", hashed)


def test_dummy_hash_matches_no_key() -> None:
    assert not verify_key("", DUMMY_HASH)


@pytest.mark.parametrize("key", ["right", "wrong", "x" * 100, "a\0b"])
@pytest.mark.parametrize("hashed", [DUMMY_HASH, "no hash"])
def test_every_verification_costs_one_bcrypt_of_twelve_rounds(
    monkeypatch: pytest.MonkeyPatch, key: str, hashed: str
) -> None:
    rounds = []

    def checkpw(secret: bytes, stored: bytes) -> bool:
        rounds.append(stored[4:6])
        return False

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    verify_key(key, hashed)
    assert rounds == [b"12"]


def test_new_hash_uses_twelve_rounds() -> None:
    assert hash_key("key").startswith("$2b$12$")


def test_empty_key_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        hash_key("")
