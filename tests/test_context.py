"""Images and captions beside speech: who uses which, that it is read as it was trained, and what is said if not."""

import logging

import pytest
import torch
from PIL import Image
from small_models import small_bert, small_vit

from xllm import checkpoint
from xllm.config import CaptionEncoderConfig, ContextConfig, VisionEncoderConfig, VisionInterfaceConfig
from xllm.context import ContextReader, recognition_loss
from xllm.errors import ConfigError
from xllm.model import XLLM

BOTH = {"blocks": 2, "visual_blocks": (1,), "visual_width": 16, "linguistic_blocks": (2,), "linguistic_width": 16}


def with_decoder(config, **changes):
    decoder = config.recognizer.decoder.model_copy(update=changes)
    return config.model_copy(update={"recognizer": config.recognizer.model_copy(update={"decoder": decoder})})


def trained(model):
    """Cross-attention with effect, which it begins without."""
    torch.manual_seed(0)
    with torch.no_grad():
        for block in model.recognizer.decoder.blocks:
            if block.cross is not None:
                block.cross.attention.out_proj.weight.normal_(std=2.0)
    return model.eval()


@pytest.fixture
def published(small_config, tmp_path):
    """A recogniser's configuration that names a small CLIP and a small BERT."""
    bert = CaptionEncoderConfig(name=str(small_bert(tmp_path / "bert")))
    context = ContextConfig(visual=str(small_vit(tmp_path / "vit")), linguistic=bert)
    return with_decoder(small_config, **BOTH).model_copy(update={"context": context})


@pytest.fixture
def images(tmp_path):
    for name, colour in (("red", (250, 20, 20)), ("blue", (20, 20, 250))):
        Image.new("RGB", (30, 30), colour).save(tmp_path / f"{name}.png")
    return [tmp_path / "red.png", tmp_path / "blue.png"]


@pytest.fixture
def warnings(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("xllm"), "propagate", True)
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_recogniser_with_published_encoders_needs_no_other_part(published, images):
    model = trained(XLLM(published, ("recognizer", "context")))
    wave = torch.randn(16000)
    read = ContextReader(model, "cif")
    sights = [None, read(images[:1], None), read(images[1:], None), read(images[:1], "天地"), read((), "天地")]
    assert read((), None) is None
    told = [str(model.transcribe([wave], "cif", [sight])[0]) for sight in sights]
    assert len(set(told)) == len(told), "each changes what is written"
    together = model.transcribe([wave] * len(sights), "cif", sights)
    assert [t.text for t in together] == [model.transcribe([wave], "cif", [s])[0].text for s in sights]


def test_in_training_too_a_batch_is_its_samples_and_absent_is_zero(published):
    model = trained(XLLM(published, ("recognizer", "context")))
    batch = {
        "features": torch.randn(3, 80, 80),
        "feature_lengths": torch.tensor([80, 80, 80]),
        "characters": torch.tensor([[2, 3], [4, 5], [6, 7]]),
        "token_lengths": torch.tensor([2, 2, 2]),
    }
    shown, said = [torch.rand(1, 3, 224, 224), None, torch.rand(1, 3, 224, 224)], ["天地", "人", ""]
    together = recognition_loss(model, shown, said, **batch)["ce"]
    alone = [
        recognition_loss(model, shown[n : n + 1], said[n : n + 1], **{k: v[n : n + 1] for k, v in batch.items()})["ce"]
        for n in range(3)
    ]
    torch.testing.assert_close(together, torch.stack(alone).mean())
    absent = recognition_loss(model, [None] * 3, [None] * 3, **batch)["ce"]
    torch.testing.assert_close(absent, model.recognizer.losses(**batch)["ce"])  # which feeds zero vectors
    assert not torch.isclose(absent, together)
    for block in model.recognizer.decoder.blocks:
        block.cross = None
    torch.testing.assert_close(absent, model.recognizer.losses(**batch)["ce"])  # as before it learned to attend


def test_they_are_named_in_a_checkpoint_and_not_inside(published, tmp_path):
    model = trained(XLLM(published, ("recognizer", "context")))
    checkpoint.save(tmp_path / "run", "small", published, checkpoint.tensors(model, ("recognizer",)))
    assert not any("context" in name for name in checkpoint.load_tensors(tmp_path / "run" / "model.safetensors"))
    loaded = XLLM.from_pretrained(tmp_path / "run")
    for name, value in model.named_parameters():
        assert torch.equal(loaded.get_parameter(name), value), name
    assert not hasattr(XLLM.from_pretrained(tmp_path / "run", parts=("recognizer",)), "context")


def test_what_an_engine_cannot_use_is_said_once(small_config, images, warnings):
    captions_only = with_decoder(small_config, **BOTH | {"visual_blocks": ()})
    model = trained(XLLM(captions_only, ("recognizer", "speech", "llm")))
    read = ContextReader(model, "cif")
    for _ in range(2):
        sight = read(images, "天地")
        assert sight.visual is None and not sight.embeddings and sight.linguistic.shape == (2, 16)
    assert warnings() == ["engine cif leaves out images: this system's recogniser has no blocks that attend to them"]
    read = ContextReader(model, "xllm")
    assert read(images, "天地").caption == "天地"
    assert warnings()[1:] == ["engine xllm leaves out images: this system has no image interface"]


@pytest.mark.parametrize(
    "decoder, parts, reason",
    [
        ({"visual_blocks": (), "linguistic_blocks": ()}, ("recognizer",), "no blocks that attend"),
        (BOTH, ("recognizer",), "lacks the part"),
        (BOTH, ("recognizer", "llm", "vision"), "never trained beside any"),
    ],
)
def test_a_system_that_can_use_nothing_refuses(small_config, decoder, parts, reason):
    vision = VisionEncoderConfig(size=16, patch=8, width=16, depth=1, heads=2)
    config = with_decoder(small_config, **decoder).model_copy(update={"vision": vision})
    reader = ContextReader(XLLM(config, parts).eval(), "cif")
    assert reader.unused.keys() == {"images", "captions"}
    for kinds in ({"images"}, {"captions"}, {"images", "captions"}):
        with pytest.raises(ConfigError, match=reason):
            reader.require(kinds)
    reader.require(())


def test_widths_that_differ_are_both_named(published, small_config):
    wide = trained(XLLM(with_decoder(published, visual_width=24), ("recognizer", "context")))
    with pytest.raises(ConfigError, match="visual_width is 24, but model.context encodes images to 16"):
        ContextReader(wide, "cif").require({"images"})
    stand_in = trained(XLLM(with_decoder(small_config, **BOTH | {"linguistic_width": 24}), ("recognizer", "llm")))
    with pytest.raises(ConfigError, match="linguistic_width is 24, but model.llm encodes captions to 16"):
        ContextReader(stand_in, "cif").require({"captions"})


def test_the_language_model_reads_a_caption_as_text(small_config):
    config = small_config.model_copy(
        update={
            "vision": VisionEncoderConfig(size=16, patch=8, width=16, depth=1, heads=2),
            "image": VisionInterfaceConfig(queries=3, width=16, ffn=32, heads=2, layers=2),
        }
    )
    torch.manual_seed(0)
    model = XLLM(config, ("recognizer", "speech", "image", "llm")).eval()
    asked = []
    build = model.prompt.build
    model.prompt.build = lambda llm, instructions, media: asked.extend(instructions) or build(llm, instructions, media)
    sights = [None, ContextReader(model, "xllm")((), " 天地人。")]
    model.transcribe([torch.randn(16000)] * 2, "xllm", sights)
    plain, captioned = sorted(set(asked), key=len)
    assert captioned == f"图片内容：天地人。{plain}"
