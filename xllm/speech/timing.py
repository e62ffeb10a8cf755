"""Times of written characters. CIF times what it fires; the LLM writes freely, so its text is aligned to CIF's."""

from difflib import SequenceMatcher
from math import exp

from xllm.speech.recognizer import Recognition
from xllm.transcript import Token


def cif_tokens(characters: list[str], spoken: Recognition, frame: float) -> list[Token]:
    """Tokens of the CIF engine: one per fired vector; `frame` is seconds per encoder frame."""
    return [
        Token(text, start * frame, fire * frame, exp(score))
        for text, score, start, fire in zip(characters, spoken.scores, spoken.starts, spoken.fires, strict=True)
    ]


def align(characters: list[str], scores: list[float], timed: list[Token]) -> list[Token]:
    """Give each character of the LLM's text the time of the CIF token it corresponds to.

    Equal and replaced stretches correspond one to one; a stretch that is longer than its counterpart divides that
    counterpart's time evenly; characters inserted where CIF fired nothing get the instant between its neighbours.
    """
    tokens: list[Token] = []
    matcher = SequenceMatcher(None, [token.text for token in timed], characters, autojunk=False)
    for _, a, b, i, j in matcher.get_opcodes():
        if i == j:
            continue
        if b - a == j - i:
            spans = [(token.start, token.end) for token in timed[a:b]]
        else:
            here = timed[a - 1].end if a else (timed[0].start if timed else 0.0)
            start, end = (timed[a].start, timed[b - 1].end) if a < b else (here, here)
            step = (end - start) / (j - i)
            spans = [(start + k * step, start + (k + 1) * step) for k in range(j - i)]
        tokens += [
            Token(character, *span, score)
            for character, span, score in zip(characters[i:j], spans, scores[i:j], strict=True)
        ]
    return tokens
