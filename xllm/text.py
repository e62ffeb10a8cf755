"""The written form that recognisers are trained on and error rates are computed on, and how it is read aloud."""

import re
import unicodedata

from xllm.errors import XLLMError

_NOT_WRITTEN = re.compile(r"[^\w]|_")
_IDEOGRAPHS = re.compile(r"[\u3400-\u9fff]+")
_SYLLABLE = re.compile(r"[a-zü]+[1-5]")


def normalize(text: str) -> str:
    """Full-width forms to plain ones (NFKC), lower case, without punctuation, symbols and spaces.

    Numbers stay as they were spoken or written: 三 and 3 remain different.
    """
    return _NOT_WRITTEN.sub("", unicodedata.normalize("NFKC", text).lower())


def reading(text: str) -> str | None:
    """Tone-numbered pinyin of the normalised text, one syllable a character: `cheng2 qu1 de5`.

    The dictionary's readings in context, without tone sandhi. None when a character is no ideograph or has no
    Mandarin reading. Raises XLLMError when pypinyin is not installed.
    """
    try:
        from pypinyin import Style, lazy_pinyin
    except ImportError:
        raise XLLMError("readings need pypinyin: pip install 'xllm-cli[train]'") from None
    text = normalize(text)
    if not _IDEOGRAPHS.fullmatch(text):
        return None
    syllables = lazy_pinyin(text, style=Style.TONE3, neutral_tone_with_five=True)
    whole = len(syllables) == len(text) and all(map(_SYLLABLE.fullmatch, syllables))
    return " ".join(syllables) if whole else None
