"""Running the `xllm` command inside the test's process."""

import sys

import pytest
import torch
from PIL import Image

from xllm import checkpoint
from xllm.config import VisionEncoderConfig, VisionInterfaceConfig
from xllm.model import XLLM


@pytest.fixture
def xllm(monkeypatch, capsys):
    """Call `xllm ARGS`; returns (exit code, stdout, stderr)."""

    def run(*arguments):
        from xllm_cli.main import main

        monkeypatch.setattr(sys, "argv", ["xllm", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def seeing(small_config, tmp_path):
    """A random system with eyes, whose recogniser looks at pictures and captions."""
    decoder = small_config.recognizer.decoder.model_copy(
        update={
            "visual_blocks": (1,),
            "visual_width": 16,
            "blocks": 2,
            "linguistic_blocks": (2,),
            "linguistic_width": 16,
        }
    )
    config = small_config.model_copy(
        update={
            "vision": VisionEncoderConfig(size=16, patch=8, width=16, depth=1, heads=2),
            "image": VisionInterfaceConfig(queries=3, width=16, ffn=32, heads=2, layers=2),
            "recognizer": small_config.recognizer.model_copy(update={"decoder": decoder}),
        }
    )
    torch.manual_seed(0)
    parts = ("recognizer", "speech", "vision", "image", "video", "llm")
    model = XLLM(config, parts)
    with torch.no_grad():  # random weights must not drown what is seen
        for block in model.recognizer.decoder.blocks:
            block.cross.attention.out_proj.weight.normal_(std=0.3)  # which begins as zero
            for p in block.cross.parameters():
                p.mul_(20)
            block.cross.attention.out_proj.weight.normal_()  # which begins as zero
        for name, p in model.image.named_parameters():
            if ".crossattention." in name:
                p.mul_(20)
        model.image.adapter.weight.mul_(50)
        for p in model.llm.model.model.layers.parameters():
            p.mul_(10)
    checkpoint.save(tmp_path / "seeing", "seeing", config, checkpoint.tensors(model, parts))
    for name, colour in (("red", (250, 20, 20)), ("blue", (20, 20, 250))):
        Image.new("RGB", (30, 30), colour).save(tmp_path / f"{name}.png")
    return tmp_path
