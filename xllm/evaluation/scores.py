"""The two scores in what a judge replies, or none: what is not clear is never guessed.

A reply is made plain first: full-width and other forms of characters become the usual ones (NFKC), thoughts, code
fences, Markdown and brackets go, and of a JSON object each item is a line. Then one form of a verdict is known: two
numbers on a line, or one for each assistant. It counts after the mark that only the judge knows; in reviews without
marks at the beginning of the reply, or, on request, what the text states in words.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from xllm.thoughts import TAG, after_thoughts, without_thoughts

LOWEST, HIGHEST = 1, 10
QUOTE = '"'

# A verdict, in plain text.
_VALUE = r"(-?[0-9]+(?:\.[0-9]+)?)(?: ?/ ?10| out of 10)?(?: ?points?| ?分)?"
_AND = r"(?:\s*[,;、]\s*(?:and )?| and | & | ?[和与] ?| )"
_HEAD = r"(?:(?:(?:final|overall) )?(?:scores?|ratings?|评分|得分|分数) ?(?:[:=]|is|are|为|是)\s*)?"
_WHO = r"(?:assistant|answer|response|score|助手|助理|回答) ?"
_HAS = r"(?:(?:'s)? scores?| ?的?(?:得分|评分|分数))? ?(?:[:=]|is|为|是|得) ?"
_EACH = rf"{_WHO}1{_HAS}{_VALUE}(?:{_AND}|[.。]?\s*){_WHO}2{_HAS}{_VALUE}"
_END = r" ?[.。!,;]? *$"
_VERDICT = rf"{_HEAD}(?:{_VALUE}{_AND}{_VALUE}{_END}|{_EACH}{_END}(?!\s+{_WHO}[0-9]+{_HAS}-?[0-9]))"
_VERDICT_LINE = re.compile(f"^{_VERDICT}", re.I | re.M)
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[\w-]*[ \t]*$\n?", re.M)
_DECORATION = re.compile(r"[*`~#()\[\]{}【】\u200b]")
_AROUND_A_WORD = re.compile(r'"(\w+)"|<([0-9./ ]+)>')
_BULLET = re.compile(r"^ ?(?:[-+•] )?", re.M)

# A score is read from the text where a sentence, or a clause with a subject of its own, says that and what for.


def _number(name: str) -> str:
    return rf"(?P<{name}>-?[0-9]+(?:\.[0-9]+)?)(?:\s?/\s?10\b| out of 10\b)?"


_A = r"an? (?:\w+ ){0,3}score of "
_HIS = r"assistant (?P<who>[12])(?:'s(?: response| answer| performance)?)?"
_FORMS = (
    r"(?:the |my |overall |final )*scores?(?: (?:for|of) assistants? 1 and (?:assistant )?2)?,?(?: respectively,?)?"
    rf"(?: are| is|:) ?{_number('first')}(?:\s*,\s*|\s+and\s+|\s+){_number('second')}(?:,? respectively)?",
    rf"both assistants (?:receive|get|earn|deserve)d? {_A}{_number('both')}",
    rf"(?:the |my )?score (?:for|of) assistant (?P<who>[12])(?: is|:) ?{_number('one')}",
    rf"assistant (?P<who>[12])(?:'s)?(?: score)?(?: is|:| scored| scores| as| an?)?(?: score of)? ?{_number('one')}",
    rf"{_HIS} (?:receive[sd]|earn(?:s|ed)|gets|got|(?:is|was) (?:given|awarded)) {_A}{_number('one')}",
    rf"{_HIS}[ ,](?:(?!assistant).)*, (?:\w+ )?(?:earning|receiving|resulting in) {_A}{_number('one')}",
    rf"i (?:would )?(?:rate|give|score|award) (?:the (?:performance|response|answer) of )?{_HIS}"
    rf"(?: as| an?| at)?(?: score of)? {_number('one')}",
)
_LEAD = r"\W*(?:(?:therefore|thus|hence|so|overall|finally|however|in summary|in conclusion)[,:]? )?"
_TAIL = r"(?:,? (?:for|compared to) .*)?\W*"
_STATEMENTS = [re.compile(f"{_LEAD}(?P<statement>{form}){_TAIL}", re.I) for form in _FORMS]
# Quotations, within a line: a lone quotation mark must not hide the rest.
_QUOTED = re.compile(r'^[ \t]*>.*|"[^"\n]*"|“[^“”\n]*”|`[^`\n]*`', re.M)
_SENTENCES = re.compile(r"\n|(?<=[.!?;])\s+")
_CLAUSES = re.compile(r",? (?:while|whereas|and|but) (?=the score|assistant [12]\b)|, (?=assistant [12]\b)", re.I)

Pairs = list[tuple[float, float]]  # as the assistants stand in the prompt


@dataclass(frozen=True)
class Scores:
    """Of the two answers, from 1 to 10."""

    candidate: float
    reference: float


def parse(text: str, mark: str | None = None, said: Iterable[str] = (), swapped: bool = False) -> Scores | None:
    """The scores where they were asked for, or None.

    With a mark: all verdicts that stand behind it, which must agree. Without: the beginning of the reply, when no line
    of what others `said` is such a verdict. A verdict ends its line.
    """
    return _agreed(_asked_for(text, mark, list(said)), swapped)


def read(text: str, mark: str | None = None, said: Iterable[str] = (), swapped: bool = False) -> Scores | None:
    """What `parse` gives; for a reply without marked verdicts its beginning, or else the scores that its text states.

    `the scores for Assistant 1 and Assistant 2 are 3 and 8`, `Assistant 1: 7`, `Assistant 1's response ..., earning a
    score of 7`, `I would rate Assistant 1 as 2 out of 10` and their like, as sentences or clauses of their own. What is
    quoted, and a statement that stands in what others `said`, does not count. None when one of the two has no score,
    several that differ, or one out of range.
    """
    return _agreed(_anywhere(text, mark, list(said)), swapped)


def why_unscored(text: str, mark: str | None = None, said: Iterable[str] = (), from_text: bool = False) -> str:
    """What keeps `parse` (or, `from_text`, `read`) from scores, in a few words for many replies."""
    pairs = (_anywhere if from_text else _asked_for)(text, mark, list(said))
    if not pairs:
        return "no two scores in the text" if from_text else f"no two scores {'after the mark' if mark else 'in front'}"
    return "scores that differ" if len(set(pairs)) > 1 else f"a score not from {LOWEST} to {HIGHEST}"


def _asked_for(text: str, mark: str | None, said: list[str]) -> Pairs:
    return _marked(text, mark, said) if mark else _in_front(text, said)


def _anywhere(text: str, mark: str | None, said: list[str]) -> Pairs:
    return (mark and _marked(text, mark, said)) or _in_front(text, said) or _stated(text, said)


def _agreed(pairs: Pairs, swapped: bool) -> Scores | None:
    """What all pairs agree on, if it is within the scale."""
    if len(set(pairs)) != 1 or not all(LOWEST <= value <= HIGHEST for value in pairs[0]):
        return None
    first, second = pairs[0]
    return Scores(second, first) if swapped else Scores(first, second)


def _marked(text: str, mark: str, said: list[str]) -> Pairs:
    """Verdicts behind the mark; on a line below it only if others have not written such a line."""
    form = re.compile(rf"^{re.escape(mark)}(?: ?:|\s)(?P<gap>\s*){_VERDICT}", re.I | re.M)
    for part in (after_thoughts(text), without_thoughts(text)):
        if found := list(form.finditer(_plain(part))):
            foreign = _foreign(said) if any("\n" in match["gap"] for match in found) else set()
            return [_pair(match) for match in found if "\n" not in match["gap"] or _pair(match) not in foreign]
    return []


def _in_front(text: str, said: list[str]) -> Pairs:
    match = _VERDICT_LINE.match(_plain(without_thoughts(text)))
    return [_pair(match)] if match and _pair(match) not in _foreign(said) else []


def _foreign(said: list[str]) -> set[tuple[float, float]]:
    """Verdicts that others than the judge wrote, as a text or as a line of one."""
    parts = (part for text in said for part in (text, *text.splitlines()))
    return {_pair(match) for part in parts for match in _VERDICT_LINE.finditer(_plain(TAG.sub("\n", part)))}


def _pair(match: re.Match) -> tuple[float, float]:
    first, second = filter(None, match.groups()[-4:])  # two numbers, or one for each assistant
    return float(first), float(second)


def _plain(text: str) -> str:
    """Without decoration, with single spaces."""
    text = _items_as_lines(_FENCE.sub("", text.replace("\ufeff", "")))
    text = unicodedata.normalize("NFKC", text)
    text = _AROUND_A_WORD.sub(r"\1\2", _DECORATION.sub("", text)).replace("_", " ")
    return _BULLET.sub("", re.sub(r"[^\S\n]+", " ", text)).strip()


def _items_as_lines(text: str) -> str:
    """A JSON object in front as lines `key: value`; a text in it, whatever it says, begins no line."""
    text = text.strip()
    try:
        items, end = json.JSONDecoder().raw_decode(text)
        lines = [f"{key}: {json.dumps(value, ensure_ascii=False).strip(QUOTE)}" for key, value in items.items()]
    except (ValueError, RecursionError, AttributeError):
        return text
    return "\n".join([*lines, text[end:]])


def _stated(text: str, said: list[str]) -> Pairs:
    """Every combination of a score stated for the first and one stated for the second."""
    foreign = [f" {_words(other)} " for other in said]
    values: dict[str, set[float]] = {"1": set(), "2": set()}
    for match in _statements(_QUOTED.sub(" ... ", without_thoughts(text))):
        if any(f" {_words(match['statement'])} " in other for other in foreign):
            continue
        found = {name: value for name, value in match.groupdict().items() if value}
        if "one" in found:
            values[found["who"]].add(float(found["one"]))
        else:
            values["1"].add(float(found.get("both") or found["first"]))
            values["2"].add(float(found.get("both") or found["second"]))
    return [(first, second) for first in values["1"] for second in values["2"]]


def _statements(text: str) -> Iterator[re.Match]:
    for sentence in _SENTENCES.split(re.sub("[*_#]", "", text).replace("’", "'")):
        for part in {sentence, *_CLAUSES.split(sentence)}:
            yield from filter(None, (form.fullmatch(part) for form in _STATEMENTS))


def _words(text: str) -> str:
    """Words and numbers alone, to know a text again in other spacing, case and punctuation."""
    return " ".join(re.findall(r"\d+(?:\.\d+)?|\w+", text.casefold()))
