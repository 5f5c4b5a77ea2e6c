"""Compose messages for conditions and Events."""


def sentences(*parts: str) -> str:
    """Join sentences. A part that lacks its full stop gets one, except the last, which may end with an address or a command."""
    texts = [part for part in parts if part]
    return " ".join([*(text if text.endswith((".", "!", "?")) else f"{text}." for text in texts[:-1]), *texts[-1:]])


def capitalized(text: str) -> str:
    """Begin with a capital letter, unless the first word is an address or a field."""
    word = text.partition(" ")[0]
    return text if any(sign in word for sign in "/:.=_") else text[:1].upper() + text[1:]
