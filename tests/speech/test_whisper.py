"""Whisper's encoder: as transformers hears, whatever the batch, at CIF's rate; weights from a folder."""

import pytest
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

from xllm.config import SpeechEncoderConfig
from xllm.errors import ConfigError
from xllm.features import augment, seeded, speech_features, whisper_features
from xllm.speech.whisper import WhisperEncoder

SMALL = SpeechEncoderConfig(form="whisper", mels=80, width=16, ffn=32, heads=2, blocks=2)
SECONDS = (0.5, 2.34, 7.0)


def speech(seconds: float) -> torch.Tensor:
    return 0.1 * torch.randn(int(16000 * seconds), generator=torch.Generator().manual_seed(int(100 * seconds)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Whisper with random weights, as `save_pretrained` leaves one."""
    torch.manual_seed(1)
    sizes = {"vocab_size": 8, "pad_token_id": 0, "decoder_layers": 1, "decoder_attention_heads": 2}
    whisper = WhisperModel(
        WhisperConfig(d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=32, **sizes)
    )
    place = tmp_path_factory.mktemp("whisper")
    whisper.save_pretrained(place)
    return whisper.eval(), str(place)


@pytest.fixture
def encoder(folder):
    torch.manual_seed(2)
    return WhisperEncoder(SMALL.model_copy(update={"pretrained": folder[1]})).eval()


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("seconds", [0.0, 0.001, 1.003, 3.0])
def test_features_are_those_of_the_window_of_thirty_seconds(seconds, mels):
    wave = speech(seconds)
    features = whisper_features(wave, mels)
    window = WhisperFeatureExtractor(feature_size=mels)(wave.numpy(), sampling_rate=16000, return_tensors="pt")
    assert features.shape == ((len(wave) + 199) // 160 + 1, mels)
    rest = window.input_features[0].T[len(features) :]
    assert rest.min() == rest.max() == features.max().sub(2).clamp(min=-1.5), "the encoder pads with this"
    torch.testing.assert_close(features, window.input_features[0].T[: len(features)], atol=1e-4, rtol=0)


def test_hears_what_transformers_hears_at_an_eighth_of_the_rate(folder, encoder):
    for seconds in SECONDS:
        wave = speech(seconds)
        window = WhisperFeatureExtractor()(wave.numpy(), sampling_rate=16000, return_tensors="pt").input_features
        with torch.no_grad():
            wanted = encoder.reduce(folder[0].encoder(window).last_hidden_state.unflatten(1, (-1, 4)).flatten(2))
            features = speech_features(wave, encoder.config)
            hidden, lengths = encoder(features[None], torch.tensor([len(features)]))
        assert encoder.rate == 8 and lengths.tolist() == [-(-len(features) // 8)] == [hidden.shape[1]]
        torch.testing.assert_close(hidden[0], wanted[0, : len(hidden[0])], atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_batch_equals_single_also_beyond_a_window(encoder):
    features = [speech_features(speech(seconds), encoder.config) for seconds in (*SECONDS, 31.0)]
    lengths = torch.tensor([len(f) for f in features])
    padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True, padding_value=1e3)
    together, counts = encoder(padded, lengths)
    for row, found in enumerate(features):
        alone, count = encoder(found[None], lengths[row : row + 1])
        assert counts[row] == count[0] == -(-len(found) // 8)
        torch.testing.assert_close(together[row, : count[0]], alone[0], atol=1e-5, rtol=1e-4)
        assert not together[row, count[0] :].any()


def test_other_sizes_missing_weights_and_bins_are_told(folder):
    config = SMALL.model_copy(update={"pretrained": folder[1], "width": 32})
    with pytest.raises(ConfigError, match="d_model.*16"):
        WhisperEncoder(config)
    with pytest.raises(ConfigError, match="or a hub name that is in the cache"):
        WhisperEncoder(config.model_copy(update={"pretrained": "no/whisper"}))
    with pytest.raises(ValueError, match="40 bins.*80"):
        WhisperEncoder(SMALL)(torch.zeros(1, 10, 40), torch.tensor([10]))


def test_augmented_features_are_only_masked():
    features = speech_features(speech(3.0), SMALL)
    masked = augment(features, seeded(1), SMALL.form)
    assert masked.shape == features.shape and not torch.equal(masked, features)
    assert ((masked == features) | (masked == 0)).all()
