"""The codes that open a study to its readers."""

from __future__ import annotations

import hashlib
import secrets

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""What is told apart when read aloud or from paper: no 0 and O, no 1 and I. 5 bits a letter."""
GROUPS, LETTERS = 3, 4


def new_code() -> str:
    """A random code of 60 bits, such as ``K7MW-2PQX-9DTA``."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(LETTERS)) for _ in range(GROUPS))


def hashed(code: str, salt: bytes) -> str:
    """What is stored of a code, in hex: scrypt, 16 MiB and some 50 ms.

    Args:
        code: as given or as typed: case, spaces and hyphens do not matter.
        salt: of the study. With 60 random bits in each code, its readers can share one; a log-in then takes the same
            time whoever it is.
    """
    plain = "".join(code.upper().replace("-", " ").split())
    return hashlib.scrypt(plain.encode("utf-8", "replace"), salt=salt, n=2**14, r=8, p=1, dklen=32).hex()


def new_identity() -> str:
    """A study's name in addresses: 8 letters and digits that are told apart when typed from paper."""
    return "".join(secrets.choice(ALPHABET.replace("L", "").lower()) for _ in range(2 * LETTERS))


def new_name() -> str:
    """A random name of 64 bits in hex, of an image or an item."""
    return secrets.token_hex(8)
