"""A recogniser on a frozen Whisper: what is to move moves, and later nobody asks for Whisper again."""

import shutil

import pytest
import torch
from transformers import WhisperConfig, WhisperModel

from xllm.config import load_recipe
from xllm.errors import ConfigError
from xllm.model import XLLM
from xllm.training.loop import Trainer

TRAINED = "trains=[recognizer.encoder.reduce,recognizer.cif,recognizer.decoder,recognizer.ctc]"


def test_trains_around_whisper_and_needs_it_once(world):
    torch.manual_seed(1)
    sizes = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    decoder = {"vocab_size": 8, "pad_token_id": 0, "decoder_layers": 1, "decoder_attention_heads": 2}
    whisper = WhisperModel(WhisperConfig(**sizes, **decoder))
    whisper.save_pretrained(world / "whisper")
    encoder = f"model.recognizer.encoder={{form: whisper, pretrained: {world}/whisper, width: 16, ffn: 32, heads: 2"
    encoder += ", blocks: 2}"

    def trainer(stage, modality, *overrides):
        recipe = load_recipe(world / "recipe.yaml", [encoder, *overrides], stage, modality)
        return Trainer(recipe, recipe.stage(stage, modality), torch.device("cpu"), lambda *_: None)

    with pytest.raises(ConfigError, match="flat_start"):
        trainer(1, "speech", "flat_start=1")
    run = trainer(1, "speech", "epochs=1", TRAINED)
    before = {name: value.detach().clone() for name, value in run.model.model.recognizer.named_parameters()}
    run.run()
    moved = {n for n, value in run.model.model.recognizer.named_parameters() if not torch.equal(before[n], value)}
    assert moved and not any(name.startswith("encoder.whisper.") for name in moved)
    assert {name.split(".")[0] for name in moved} == {"encoder", "cif", "decoder", "ctc"}
    shutil.rmtree(world / "whisper")
    trainer(0, "text", "epochs=1").run()
    trainer(2, "speech", "epochs=1").run()
    loaded = XLLM.from_pretrained(world / "run2")
    own = loaded.recognizer.encoder.whisper.state_dict()
    assert all(torch.equal(own[name], value) for name, value in whisper.encoder.state_dict().items())
    assert len(loaded.transcribe([torch.randn(16000), torch.randn(9000)])) == 2
