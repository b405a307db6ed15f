"""What files say, in our messages: it may be of any length and kind, and move the cursor."""

from typing import Any

__all__ = ["printable", "shown"]

_MOST = 160                                          # characters of a text
_MOST_BITS = 256                                     # of a number: the digits of longer ones take long


def printable(text: str) -> str:
    """The text with everything that is not printable as Python would escape it."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown(value: Any) -> str:
    """A value of a file as a short part of one line."""
    if isinstance(value, str | BaseException):
        text = str(value)
        return printable(text[:_MOST]) + ("..." if len(text) > _MOST else "")
    if type(value) is int:
        return str(value) if value.bit_length() <= _MOST_BITS else f"a number of {value.bit_length()} bits"
    if type(value) is tuple and all(type(v) is int for v in value):
        text = ", ".join(shown(v) for v in value[:8])
        return f"({text}, ...)" if len(value) > 8 else f"({text},)" if len(value) == 1 else f"({text})"
    return f"a value of type {type(value).__name__}"
