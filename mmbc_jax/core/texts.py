"""Texts of several parts, as options hold them."""

from __future__ import annotations


def listed_parts(text: str) -> list[str]:
    """The parts of `a; b`, whose last may end with a semicolon, too; where one is empty, so that it can be named."""
    inner = text.strip().removesuffix(";")
    return [part.strip() for part in inner.split(";")] if text.strip() else []
