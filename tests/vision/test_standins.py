"""Files of features that stand in for images, beside images."""

import numpy as np
import pytest
import torch

from xllm.config import ModelConfig, VisionEncoderConfig
from xllm.errors import MediaError
from xllm.modalities import MODALITIES
from xllm.vision.encoder import VisionEncoder
from xllm.vision.standins import load_stand_in

CONFIG = VisionEncoderConfig(name="test_efficientnet", classes=True)


def test_a_batch_may_have_images_and_what_stands_in_for_one(tmp_path):
    torch.manual_seed(0)
    image, encoder = MODALITIES["image"], VisionEncoder(CONFIG).eval()
    features = np.random.default_rng(0).standard_normal((2, encoder.width)).astype(np.float16)
    np.save(tmp_path / "a.npy", features)
    stand_in = image.load(str(tmp_path / "a.npy"), ModelConfig(vision=CONFIG), torch.Generator())
    size = encoder.config.size
    first, last = torch.rand(1, 3, size, size), torch.rand(1, 3, size, size)
    with torch.no_grad():
        out = image.tokens(encoder, [first, stand_in, last])
        wanted = [encoder(first), encoder.complete(torch.tensor(features[None], dtype=torch.float32)), encoder(last)]
    for value, same in zip(out, wanted, strict=True):
        torch.testing.assert_close(value, same, atol=1e-5, rtol=1e-4)
    assert torch.equal(image.tokens(encoder, [stand_in])[0], wanted[1])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((3, 8), np.float32), r"float32 \[3, 8\] in place of features"),
        (np.zeros((2, 8), np.int64), "int64"),
        (np.full((2, 8), np.nan), "no numbers"),
        (np.array([{"a": 1}] * 2), "not an array of features"),  # a pickle
    ],
)
def test_other_arrays_are_refused(tmp_path, value, message):
    np.save(tmp_path / "a.npy", value, allow_pickle=True)
    with pytest.raises(MediaError, match=f"a.npy: .*{message}"):
        load_stand_in(tmp_path / "a.npy")


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    with pytest.raises(MediaError, match="a.npy: cannot be read: No such file"):
        load_stand_in(path)
    np.save(path, np.zeros((2, 1280)))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MediaError, match="a.npy: not an array"):
        load_stand_in(path)
    path.write_bytes(b"GIF89a")
    with pytest.raises(MediaError, match="a.npy: not an array"):
        load_stand_in(path)
