"""What counts as a password: long enough, not among the guessed first. Nothing is cut off.

No rules of composition (letters, digits, signs) and no forced change, as NIST SP 800-63B and
OWASP ASVS 5.0 (6.2) advise. The list holds what people make of the common ones when twelve
characters are asked for; repeats and runs are found by rule.
"""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from typing import Final

from broker.domain.errors import BadRequestError
from broker.limits import PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN

_COMMON: Final = frozenset(
    {
        "1234567890ab", "123456789012", "1234567890123", "12345678901234", "123456789abc",
        "123456abcdef", "1q2w3e4r5t6y", "1q2w3e4r5t6y7u", "1qaz2wsx3edc", "1qaz2wsx3edc4rfv",
        "a12345678910", "a123456789012", "aa123456789012", "abc123456789", "abcd12345678",
        "adminadmin12", "administrator", "administrator1", "changeme1234", "changemeplease",
        "correcthorsebatterystaple", "dragondragon", "footballfootball", "iloveyou1234",
        "iloveyouiloveyou", "letmeinletmein", "letmeinplease", "masterpassword", "monkeymonkey",
        "newpassword1", "p@ssw0rd1234", "p@ssword1234", "pa$$w0rd1234", "passw0rd1234",
        "passw0rdpassw0rd", "password1234", "password12345", "password123456", "passwordpassword",
        "princess1234", "qazwsxedcrfv", "qq1234567890", "qwe123456789", "qweasdzxc123",
        "qwerty123456", "qwertyqwerty", "qwertyuiop12", "qwertyuiop123", "qwertyuiopasdf",
        "sunshine1234", "superman1234", "supersecret1", "trustno1trustno1", "welcome12345",
        "welcomewelcome", "woaini123456", "woaini1314520", "woaini5201314", "zxcvbnm12345",
        "zxcvbnmasdfghjkl",
    }
)  # fmt: skip
_REPEAT_MAX: Final = 4
"""a password that only repeats a piece of up to this many characters is refused"""


def normal(password: str) -> str:
    """One form for what looks the same (Unicode NFC), whatever keyboard made it."""
    return unicodedata.normalize("NFC", password)


def password_problem(password: str, *, username: str = "") -> str | None:
    """Why this is not accepted as a new password, as a sentence; None where it is."""
    text = normal(password)
    if len(text) < PASSWORD_CHARS_MIN:
        return f"a password has at least {PASSWORD_CHARS_MIN} characters"
    if len(text) > PASSWORD_CHARS_MAX:
        return f"a password has at most {PASSWORD_CHARS_MAX} characters"
    if any(unicodedata.category(one) in {"Cc", "Cs"} for one in text):
        return "a password has no control characters"
    folded = text.casefold()
    if folded in _COMMON or _is_repeat(folded) or _is_run(folded):
        return "this password is among the first that are guessed"
    name = normal(username).casefold()
    if name and not folded.replace(name, "").strip("0123456789"):
        return "a password is not made of the user name"
    return None


def check_password(password: str, *, username: str = "") -> None:
    """Refuse what is not accepted as a new password.

    Raises:
        BadRequestError: with the reason; `fields["field"]` is `password`.
    """
    problem = password_problem(password, username=username)
    if problem is not None:
        raise BadRequestError(problem, fields={"field": "password"})


def _is_repeat(text: str) -> bool:
    return any(text == (text[:size] * len(text))[: len(text)] for size in range(1, _REPEAT_MAX + 1))


def _is_run(text: str) -> bool:
    """Each character follows the one before it, up or down: 123456789012, abcdefghijkl."""

    def step(before: str, after: str) -> int:
        way = ord(after) - ord(before)
        # after 9 comes 0
        return way % 10 if before.isdecimal() and after.isdecimal() else way

    return {step(*pair) for pair in pairwise(text)} in ({1}, {9}, {-1})
