"""Names and labels: what they may hold, and how they are folded.

A name identifies (user name, group, pool, endpoint …) and a label only describes (display name,
title, location). Both are any script's letters, NFC-normalised, without control characters.
"""

from __future__ import annotations

import unicodedata

from broker.limits import NAME_CHARS_MAX, PROFILE_CHARS_MAX

_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
# Persian and several Indic scripts need the joiners inside ordinary words.
_JOINERS = frozenset("\u200c\u200d")
# ";" separates lists in a roster; "/" joins an endpoint and a pool to a desktop's name.
_REFUSED_IN_NAMES = ";/"


def clean(text: str) -> str:
    """The text as it is stored: without surrounding white space, NFC."""
    return unicodedata.normalize("NFC", text.strip())


def fold_username(text: str) -> str:
    """The user name as it is stored and compared: NFC, lower case."""
    return unicodedata.normalize("NFC", clean(text).lower()).strip()


def label_problem(text: str) -> str | None:
    """Why this cleaned text cannot be a label; None if it can. An empty one can."""
    if len(text) > NAME_CHARS_MAX:
        return f"has {len(text)} characters; at most {NAME_CHARS_MAX} are allowed"
    for char in text:
        if unicodedata.category(char) in _REFUSED_CATEGORIES and char not in _JOINERS:
            return f"has a control or invisible character (U+{ord(char):04X})"
    return None


def name_problem(text: str) -> str | None:
    """Why this cleaned text cannot be a name; None if it can."""
    if not text:
        return "is empty"
    for char in text:
        if char in _REFUSED_IN_NAMES:
            return f"has a {char!r}, which names may not have"
        if char in _JOINERS or (char.isspace() and char != " "):
            return f"has an invisible character (U+{ord(char):04X})"
    if "  " in text:
        return "has two spaces in a row"
    return label_problem(text)


def profile_problem(text: str) -> str | None:
    """Why this cleaned text cannot be a host's profile; None if it can. What it says is for its
    engine to judge."""
    if not text:
        return "is empty"
    if len(text) > PROFILE_CHARS_MAX:
        return f"has {len(text)} characters; at most {PROFILE_CHARS_MAX} are allowed"
    for char in text:
        if not "!" <= char <= "~":
            return f"has a blank, or a letter beyond ASCII (U+{ord(char):04X}): write it as %XX"
    return None


def username_problem(text: str) -> str | None:
    """Why this folded text cannot be a user name; None if it can."""
    if " " in text:
        return "has a space, which user names may not have"
    return name_problem(text)


def shown(text: str, *, chars_max: int = 60) -> str:
    """The text in quotes for a message: shortened, invisible characters made visible."""
    short = text if len(text) <= chars_max else text[: chars_max - 1] + "…"
    return (
        "'" + "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in short) + "'"
    )
