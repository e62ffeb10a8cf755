"""What recognition returns: text, its tokens in time, and how sure the model was. Plain data, no torch."""

from dataclasses import dataclass, field
from math import exp, log

from xllm.timeline import Lost


@dataclass(frozen=True)
class Token:
    """One written character. `start` and `end` in seconds from the start of the audio; `score` in 0..1."""

    text: str
    start: float
    end: float
    score: float


@dataclass(frozen=True)
class Transcript:
    """The text of one stretch of audio. `score` is the exponential of the mean token log-probability.

    Without a text its score is 1 where nothing was heard, and that of what was heard where it was too low.
    """

    text: str
    tokens: list[Token] = field(default_factory=list)
    score: float = 1.0

    @classmethod
    def of(cls, tokens: list[Token]) -> "Transcript":
        """Join tokens; no tokens are empty text of score 1."""
        if not tokens:
            return cls("")
        mean = sum(log(max(token.score, 1e-10)) for token in tokens) / len(tokens)
        return cls("".join(token.text for token in tokens), tokens, exp(mean))


@dataclass(frozen=True)
class Segment:
    """A stretch of speech between pauses; `start` and `end` in seconds from the start of the recording."""

    start: float
    end: float
    text: str
    score: float
    tokens: list[Token]


@dataclass(frozen=True)
class Recording:
    """One input file, transcribed. No speech in it is no segments and empty text.

    `lost` are the stretches, from second to second, that damage has cost: they are silence in what was transcribed.
    `unclear` are those in which something was heard that is hardly speech: noise, music, another language.
    """

    id: str
    path: str
    duration: float
    engine: str
    segments: list[Segment]
    lost: list[Lost] = field(default_factory=list)
    unclear: list[Lost] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The segments' texts, joined."""
        return "".join(segment.text for segment in self.segments)

    @property
    def score(self) -> float:
        """Exponential of the mean token log-probability of the whole recording."""
        return Transcript.of([token for segment in self.segments for token in segment.tokens]).score
