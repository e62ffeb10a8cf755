"""Times of written characters. CIF times what it fires; the LLM writes freely, so its text is aligned to CIF's."""

from collections.abc import Iterator
from difflib import SequenceMatcher
from math import exp

from xllm.speech.recognizer import Recognition
from xllm.text import normalize
from xllm.transcript import Token


def cif_tokens(characters: list[str], spoken: Recognition, frame: float) -> list[Token]:
    """Tokens of the CIF engine: one per fired vector; `frame` is seconds per encoder frame."""
    return [
        Token(text, start * frame, fire * frame, exp(score))
        for text, score, start, fire in zip(characters, spoken.scores, spoken.starts, spoken.fires, strict=True)
    ]


def align(characters: list[str], scores: list[float], timed: list[Token]) -> list[Token]:
    """Give each character of the LLM's text the time of the CIF token it corresponds to.

    Punctuation and spaces, which nobody speaks, get the instant after the character before them.
    """
    spoken = [normalize(character) for character in characters]
    spans = _spans([character for character in spoken if character], timed)
    tokens, now = [], timed[0].start if timed else 0.0
    for character, said, score in zip(characters, spoken, scores, strict=True):
        start, now = next(spans) if said else (now, now)
        tokens.append(Token(character, start, now, score))
    return tokens


def _spans(characters: list[str], timed: list[Token]) -> Iterator[tuple[float, float]]:
    """Start and end of each spoken character.

    Equal and replaced stretches correspond one to one; a stretch that is longer than its counterpart divides that
    counterpart's time evenly; characters inserted where CIF fired nothing get the instant between its neighbours.
    """
    matcher = SequenceMatcher(None, [token.text for token in timed], characters, autojunk=False)
    for _, a, b, i, j in matcher.get_opcodes():
        if b - a == j - i:
            yield from ((token.start, token.end) for token in timed[a:b])
        elif i < j:
            here = timed[a - 1].end if a else (timed[0].start if timed else 0.0)
            start, end = (timed[a].start, timed[b - 1].end) if a < b else (here, here)
            step = (end - start) / (j - i)
            yield from ((start + k * step, start + (k + 1) * step) for k in range(j - i))
