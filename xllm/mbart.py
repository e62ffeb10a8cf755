"""Translation by mBART-50 many-to-many (Tang et al. 2020), sentence by sentence as it was trained."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from xllm.errors import ConfigError, XLLMError
from xllm.text_cache import TextCache
from xllm.translation import language
from xllm.trust import loading

MBART = "facebook/mbart-large-50-many-to-many-mmt"
LONGEST = 200  # tokens of a translated sentence, `max_length` of that model
UNSPACED = {"ja", "km", "my", "th", "zh"}  # written without spaces between sentences

# Between sentences. A full stop after a short word (Mr.), an initial or a number is not taken for an end.
_ENDS = re.compile(r"(?<=[。！？])(?![。！？”’」』）])|(?<=\w\w\w[.!?])\s+(?=[^\W\d_a-z]|[\"“'])")


class ByMBart:
    """mBART-50 many-to-many, a hub name or a local folder, sentence by sentence as it was trained.

    Greedy or by beams as the model's own settings say; the company in a batch changes no translation.
    """

    def __init__(
        self,
        source: str,
        target: str,
        cache: Path | None,
        model: str | Path = MBART,
        batch_size: int = 8,
        device: str = "cpu",
    ):
        """Loads nothing until something is not in the `cache` folder; without one, nothing is kept.

        Raises ConfigError for an unknown language.
        """
        if batch_size < 1:
            raise ConfigError("a batch has at least 1 sentence")
        self._codes = language(source)[0], language(target)[0]
        self._space = "" if target in UNSPACED else " "
        self._name, self._batch_size, self._device = str(model), batch_size, device
        folder = sorted(Path(model).glob("*")) if Path(model).is_dir() else ()
        files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder]
        self._identity = [self._name, files, *self._codes]
        self._cache = None if cache is None else TextCache(Path(cache))

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        """Tokenizer and model. Raises ConfigError when they cannot be loaded."""
        from transformers import MBart50Tokenizer, MBartForConditionalGeneration

        from xllm.device import resolve_device

        with loading(f"translation model {self._name!r}"):
            tokenizer = MBart50Tokenizer.from_pretrained(self._name, src_lang=self._codes[0], trust_remote_code=False)
            model = MBartForConditionalGeneration.from_pretrained(
                self._name, trust_remote_code=False, weights_only=True
            )
        return tokenizer, model.to(resolve_device(self._device)).eval()

    def translate(
        self, texts: Sequence[str], ids: Sequence[str] | None = None
    ) -> Iterator[tuple[int, str | XLLMError]]:
        """As `Translator`. Raises ConfigError when the model cannot be loaded or the cache not be used."""
        lines = [[sentences(line) for line in text.split("\n")] for text in texts]
        waiting = {index: [sentence for line in text for sentence in line] for index, text in enumerate(lines)}
        every = dict.fromkeys(sentence for own in waiting.values() for sentence in own)
        known = {
            sentence: found for sentence in every if self._cache and (found := self._cache.get(self._key(sentence)))
        }
        # Sentences of a length together: a batch is as slow as its longest.
        missing = sorted((sentence for sentence in every if sentence not in known), key=len)
        for start in range(0, len(missing) + self._batch_size, self._batch_size):
            for index in [index for index, own in waiting.items() if all(sentence in known for sentence in own)]:
                own = waiting.pop(index)
                failed = next((known[sentence] for sentence in own if isinstance(known[sentence], XLLMError)), None)
                whole = failed or "\n".join(self._space.join(known[part] for part in line) for line in lines[index])
                yield index, whole if own else texts[index]
            if batch := missing[start : start + self._batch_size]:
                known |= zip(batch, self._batch(batch), strict=True)

    def _key(self, sentence: str) -> str:
        return hashlib.sha256(json.dumps([*self._identity, sentence]).encode()).hexdigest()

    def _batch(self, batch: list[str]) -> list[str | XLLMError]:
        """Translations of sentences, kept, or why there is none."""
        import torch

        tokenizer, model = self._model
        limit = model.config.max_position_embeddings
        ids = tokenizer(batch)["input_ids"]
        out: list[str | XLLMError] = [
            XLLMError(f"a sentence of {len(own)} tokens; the model takes {limit}: {text!r:.40}")
            for own, text in zip(ids, batch, strict=True)
        ]
        fit = [place for place, own in enumerate(ids) if len(own) <= limit]
        if not fit:
            return out
        inputs = tokenizer([batch[place] for place in fit], padding=True, return_tensors="pt").to(model.device)
        longest = min(LONGEST, limit - 1)
        with torch.inference_mode():
            written = model.generate(
                **inputs,
                forced_bos_token_id=tokenizer.convert_tokens_to_ids(self._codes[1]),
                max_new_tokens=longest,
                do_sample=False,
            )
        for place, row in zip(fit, written, strict=True):
            text = tokenizer.decode(row, skip_special_tokens=True).strip()
            if int((row != tokenizer.pad_token_id).sum()) > longest:  # its end, if it has one, is forced
                out[place] = XLLMError(f"no end of the translation within {longest} tokens: {batch[place]!r:.40}")
            elif not text:
                out[place] = XLLMError(f"the model gives no translation: {batch[place]!r:.40}")
            else:
                out[place] = text
                if self._cache:
                    self._cache.put(self._key(batch[place]), text, source=batch[place])
        return out


def sentences(line: str) -> list[str]:
    """The sentences of a line; none of a blank one."""
    return [part.strip() for part in _ENDS.split(line) if part and part.strip()]
