"""The assembled model: what is asked of interfaces beside answers."""

import pytest
import torch
from small_models import small_qwen2

from xllm.config import LLMConfig
from xllm.model import XLLM


@pytest.fixture
def system(small_config, tmp_path):
    """Interfaces around a language model whose tokens are words, characters and bytes; it writes nonsense."""
    llm = LLMConfig(name=str(small_qwen2(tmp_path / "qwen2", width=64)), chat=True)
    speech = small_config.speech.model_copy(update={"width": 64, "ffn": 128, "text_weight": 1.0})
    decoder = small_config.recognizer.decoder.model_copy(update={"syllables": True})
    recognizer = small_config.recognizer.model_copy(update={"decoder": decoder})
    changes = {"llm": llm, "speech": speech, "recognizer": recognizer}
    torch.manual_seed(0)
    return XLLM(small_config.model_copy(update=changes), ("recognizer", "speech", "llm"))


def means(system, text):
    return torch.stack([system.llm.embed(system.prompt.tokens(character)).mean(0) for character in text])


class Says(torch.nn.Module):
    """An interface that embeds its inputs as they are."""

    def forward(self, tokens, lengths):
        return tokens, lengths


def pull(system, embeddings, text):
    system.speech = Says()
    tokens = [{"speech": [embeddings]}]
    losses = system.response_loss(tokens, [{}], ["识别"], [text], told=[{"speech": text}])
    assert torch.allclose(losses["loss"], losses["answer"] + losses["speech text"])
    return losses["speech text"].item()


def test_interfaces_are_drawn_to_characters_however_the_language_model_cuts_text(system):
    assert len(system.prompt.tokens("天地")) == 1 and len(system.prompt.tokens("语")) == 3
    wanted = means(system, "天地语")
    assert pull(system, wanted, "天地语") == pytest.approx(0, abs=1e-9)
    assert pull(system, 2 * wanted, "天地语") == pytest.approx(1)
    assert pull(system, wanted[[1, 0, 2]], "天地语") > 0.1
    assert pull(system, wanted, "天地") == 0  # another number of characters was heard: nobody knows which is which


def test_a_new_interface_passes_characters_on_that_are_words_or_bytes_to_the_language_model(system):
    known = [c for c in system.recognizer.units.characters if c in "天地语人我"]
    tokens = torch.eye(system.recognizer.token_width)[system.recognizer.units.encode("".join(known))]

    def distance():
        wanted = means(system, known)
        (passed,) = system.eval().embed([{"speech": [tokens]}])[0]["speech"]
        return float((passed - wanted).square().mean() / wanted.square().mean())

    assert distance() > 0.9
    system.begin_with_characters()
    assert distance() < 0.3


def test_an_answer_of_another_number_of_characters_gives_way(small_system, monkeypatch):
    """Where answers are `counted`, as CIF counts; punctuation is none."""
    waves = [torch.randn(16000, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    heard = small_system.transcribe(waves, "cif")
    sizes = [len(one.text) for one in heard]
    assert max(sizes) > 0
    said = iter(["天" * size + "。" for size in sizes[:2]] + ["地" * (size + 1) for size in sizes[2:]])
    monkeypatch.setattr(small_system, "_answers", lambda rows, *_: [None] * len(rows))
    monkeypatch.setattr(small_system, "_characters", lambda _: (list(text := next(said)), [0.5] * len(text)))
    counted = small_system.config.speech.model_copy(update={"counted": True})
    small_system.config = small_system.config.model_copy(update={"speech": counted})
    written = [one.text for one in small_system.transcribe(waves)]
    assert written == ["天" * size + "。" for size in sizes[:2]] + [one.text for one in heard[2:]]
