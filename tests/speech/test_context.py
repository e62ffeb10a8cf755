"""Published encoders of images and captions: read from folders, frozen, the same alone as in company."""

import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import small_bert, small_clip, small_vit

from xllm.config import CaptionEncoderConfig, ContextConfig
from xllm.errors import ConfigError
from xllm.speech.context import CaptionEncoder, ContextEncoders

CAPTIONS = ["天地人", "你", "大小大小大小"]


@pytest.fixture
def bert(tmp_path):
    return small_bert(tmp_path / "bert")


@torch.no_grad()
def test_captions_are_the_same_alone_as_in_a_batch(bert):
    encoder = CaptionEncoder.load(CaptionEncoderConfig(name=str(bert))).eval()
    together = encoder(CAPTIONS)
    assert [row.shape for row in together] == [(len(c) + 2, encoder.width) for c in CAPTIONS], "class and separator"
    for caption, row in zip(CAPTIONS, together, strict=True):
        torch.testing.assert_close(encoder([caption])[0], row)


@torch.no_grad()
def test_they_are_what_the_published_model_gives(bert):
    from transformers import AutoTokenizer, BertModel

    encoder = CaptionEncoder.load(CaptionEncoderConfig(name=str(bert))).eval()
    ids = AutoTokenizer.from_pretrained(bert)(CAPTIONS[0], return_tensors="pt")
    published = BertModel.from_pretrained(bert).eval()(**ids).last_hidden_state[0]
    torch.testing.assert_close(encoder(CAPTIONS[:1])[0], published)


@torch.no_grad()
def test_the_end_of_a_long_caption_is_cut_and_that_is_said(bert, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("xllm"), "propagate", True)
    encoder = CaptionEncoder.load(CaptionEncoderConfig(name=str(bert))).eval()
    fits, cut = encoder(["天" * 10, "天" * 10 + "地" * 90])
    torch.testing.assert_close(cut, fits)  # 12 positions, separator included
    assert "longer than the 12 tokens" in caplog.text


def test_what_is_missing_is_told(bert, tmp_path):
    with pytest.raises(ConfigError, match="context.linguistic.name .*nothing"):
        CaptionEncoder.load(CaptionEncoderConfig(name=str(tmp_path / "nothing")))
    values = load_file(bert / "model.safetensors")
    gone = next(name for name in values if name.endswith("query.weight"))
    save_file({k: v for k, v in values.items() if k != gone}, bert / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match="has no weights for .*query.weight"):
        CaptionEncoder.load(CaptionEncoderConfig(name=str(bert)))
    (tmp_path / "empty").mkdir()
    damaged = small_vit(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"{" * 100)
    for folder in (tmp_path / "empty", damaged, small_clip(tmp_path / "clip")):  # the last one is not timm's
        with pytest.raises(ConfigError, match=f"{folder.name}' cannot be loaded .* a folder that timm has saved"):
            ContextEncoders.load(ContextConfig(visual=str(folder)))


@torch.no_grad()
def test_a_vision_transformer_is_read_from_its_folder(tmp_path):
    folder = small_vit(tmp_path / "vit")
    encoder = ContextEncoders.load(ContextConfig(visual=str(folder))).eval().visual
    values = load_file(folder / "model.safetensors")
    own = dict(encoder.vit.named_parameters())
    assert own and all(torch.equal(value, values[name]) for name, value in own.items())
    assert encoder(torch.rand(2, 3, 224, 224)).shape == (2, 50, 16)
