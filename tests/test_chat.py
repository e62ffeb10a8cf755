"""Chat: streamed equals whole, batch equals single, conversations remember, come back, and survive interruption."""

import json

import pytest
import torch
from PIL import Image

from xllm.chat import Conversation, Question, answer, see, stream
from xllm.config import VisionEncoderConfig, VisionInterfaceConfig
from xllm.errors import ConfigError, MediaError
from xllm.generation import Sampling
from xllm.instructions import INSTRUCTIONS
from xllm.model import XLLM


@pytest.fixture
def model(small_config):
    eyes = {
        "vision": VisionEncoderConfig(size=16, patch=8, width=16, depth=1, heads=2),
        "image": VisionInterfaceConfig(queries=3, width=16, ffn=32, heads=2, layers=2),
    }
    torch.manual_seed(1)
    parts = ("recognizer", "speech", "vision", "image", "video", "llm")
    model = XLLM(small_config.model_copy(update=eyes), parts).eval().requires_grad_(False)
    with torch.no_grad():  # spread logits, so that ties of a random model do not decide
        model.llm.model.get_input_embeddings().weight.mul_(20)
    return model


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (20, 20), (200, 30, 60)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_streamed_equals_whole_and_batch_equals_single(model, picture):
    questions = [Question("天？", {"image": [see(model, "image", picture)]}), Question("你我他地")]
    together = answer(model, questions, max_tokens=12)
    assert any(together)
    for question, whole in zip(questions, together, strict=True):
        assert answer(model, [question], max_tokens=12) == [whole]
        assert "".join(stream(model, question, max_tokens=12)) == whole
    drawn = Sampling(temperature=1.0, seed=7)
    assert "".join(stream(model, questions[0], drawn, 12)) == answer(model, questions[:1], drawn, 12)[0]


def test_a_conversation_remembers_and_comes_back(model, picture):
    talk = Conversation(model)
    talk.attach("image", picture)
    first = "".join(talk.ask("天", max_tokens=5))
    assert talk.turns == [{"instruction": "天", "response": first}]
    saved = json.loads(json.dumps(talk.state()))
    second = "".join(talk.ask("地", max_tokens=5))
    other = Conversation(model)
    other.restore(saved)
    assert "".join(other.ask("地", max_tokens=5)) == second
    talk.clear()
    assert talk.state() == {"media": [], "turns": []}
    with pytest.raises(ConfigError, match="not a saved conversation"):
        talk.restore({"turns": 3})


def test_an_answer_that_is_left_in_the_middle_stays(model):
    talk = Conversation(model)
    pieces = talk.ask("天地人", Sampling(temperature=1.0, seed=0), 9)
    begun = next(pieces)
    pieces.close()
    assert talk.turns == [{"instruction": "天地人", "response": begun}]


def test_a_spoken_question_is_asked_by_what_is_shown():
    spoken, image = {"speech": []}, {"image": []}
    assert Question(None, spoken).asked == INSTRUCTIONS["spoken"][0]
    assert Question(None, spoken | image).asked == INSTRUCTIONS["dialogue"][0]
    assert Question("天？", spoken | image).asked == "天？"


def test_what_cannot_be_asked_is_said(model, tmp_path, small_system):
    talk = Conversation(model)
    with pytest.raises(MediaError, match="no such file"):
        talk.attach("image", tmp_path / "none.png")
    assert talk.state()["media"] == []
    with pytest.raises(ConfigError, match="nothing is asked"):
        next(talk.ask(None))
    with pytest.raises(ConfigError, match="/clear"):
        next(talk.ask("天" * 300))
    with pytest.raises(ConfigError, match="cannot take image"):
        see(small_system, "image", tmp_path / "none.png")
