"""Text for a terminal."""


def printable(text: str) -> str:
    """`text` on one line, without what a terminal would obey: a path may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
