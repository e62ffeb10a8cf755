"""What a reasoning model thinks before it replies, where a server leaves that in the reply."""

import re

TAG = re.compile(r"</?think(?:ing)?>", re.I)
_OPENS = re.compile(r"\s*<think(?:ing)?>", re.I)
_ENDS = re.compile(r"</think(?:ing)?>", re.I)


def without_thoughts(text: str) -> str:
    """The text without `<think>...</think>` in front; empty when the thoughts end nowhere, or more than once."""
    parts = _ENDS.split(text)
    if not _OPENS.match(text):
        return text
    return parts[1] if len(parts) == 2 else ""


def after_thoughts(text: str) -> str:
    """What stands behind the last `</think>`, for thoughts that the chat template has opened; else the text."""
    return without_thoughts(_ENDS.split(text)[-1])
