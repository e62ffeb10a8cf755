"""Whisper's encoder and decoder: as transformers has them, whatever the batch; weights from a folder."""

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

from xllm.config import DecoderConfig, SpeechEncoderConfig
from xllm.errors import ConfigError
from xllm.features import augment, seeded, speech_features, whisper_features
from xllm.speech.decoder import Foreign
from xllm.speech.units import Units
from xllm.speech.whisper import WhisperEncoder
from xllm.speech.whisper_decoder import PROMPT, WhisperDecoder

SMALL = SpeechEncoderConfig(form="whisper", mels=80, width=16, ffn=32, heads=2, blocks=2)
SECONDS = (0.5, 2.34, 7.0)


def speech(seconds: float) -> torch.Tensor:
    return 0.1 * torch.randn(int(16000 * seconds), generator=torch.Generator().manual_seed(int(100 * seconds)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Whisper with random weights, as `save_pretrained` leaves one."""
    torch.manual_seed(1)
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
    encoder = {"encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    whisper = WhisperModel(WhisperConfig(vocab_size=8, pad_token_id=0, d_model=16, **encoder, **decoder))
    place = tmp_path_factory.mktemp("whisper")
    whisper.save_pretrained(place)
    model = models.BPE({token: number for number, token in enumerate([*"abcd", "ab", "天"])}, [("a", "b")])
    Tokenizer(model).save(str(place / "tokenizer.json"))
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


@torch.no_grad()
def test_a_whole_window_is_encoded_as_by_transformers_and_averaged_in_pairs(folder, encoder):
    wave = speech(29.48)  # 2950 frames, which half a second of silence makes a window
    window = WhisperFeatureExtractor()(wave.numpy(), sampling_rate=16000, return_tensors="pt").input_features
    wanted = folder[0].encoder(window).last_hidden_state.unflatten(1, (-1, 2)).mean(2)
    features = speech_features(wave, encoder.config)
    hidden, lengths = encoder(features[None], torch.tensor([2950]))
    assert encoder.rate == 4 and lengths.tolist() == [738] == [hidden.shape[1]]
    torch.testing.assert_close(hidden[0], wanted[0, :738], atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_frozen_layers_may_be_computed_before_the_rest(encoder):
    features = [speech_features(speech(seconds), encoder.config) for seconds in SECONDS]
    lengths = torch.tensor([len(f) for f in features])
    padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
    whole, counts = encoder(padded, lengths)
    for depth in range(1, encoder.whole + 1):
        states, sizes = encoder.lower(padded, lengths, depth)
        states = states + 1e3 * (torch.arange(states.shape[1]) >= sizes[:, None])[..., None]  # what follows is not read
        hidden, again = encoder(states, sizes, depth)
        assert torch.equal(again, counts)
        torch.testing.assert_close(hidden, whole, atol=1e-5, rtol=1e-4)


def test_depth_to_which_it_is_frozen(encoder):
    assert encoder.frozen == 0
    encoder.requires_grad_(False)
    assert encoder.frozen == encoder.whole == 4
    encoder.whisper.layer_norm.requires_grad_(True)
    assert encoder.frozen == 3
    encoder.whisper.layers[0].requires_grad_(True)
    assert encoder.frozen == 1
    encoder.whisper.embed_positions.requires_grad_(True)
    assert encoder.frozen == 0


@torch.no_grad()
def test_batch_equals_single_also_beyond_a_window(encoder):
    features = [speech_features(speech(seconds), encoder.config) for seconds in (*SECONDS, 31.0)]
    lengths = torch.tensor([len(f) for f in features])
    padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True, padding_value=1e3)
    together, counts = encoder(padded, lengths)
    for row, found in enumerate(features):
        alone, count = encoder(found[None], lengths[row : row + 1])
        assert counts[row] == count[0] == -(-len(found) // 4)
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


NAR = DecoderConfig(form="whisper", width=16, ffn=32, heads=2, blocks=1, visual_blocks=(), linguistic_blocks=())


@torch.no_grad()
def test_decoder_blocks_are_whispers_without_the_causal_mask(folder):
    """One token sees itself alone: what Whisper's own decoder makes of it, given CIF's vector as its embedding."""
    torch.manual_seed(3)
    decoder = WhisperDecoder(NAR.model_copy(update={"pretrained": folder[1]}), Units(("<blank>", "<unk>", "天"))).eval()
    frames, vector = torch.randn(1, 9, 16), torch.randn(1, 1, 16)
    ones = Foreign(frames, torch.tensor([9]))
    logits = decoder(decoder.from_cif(vector)[0], torch.tensor([1]), frames=ones)
    whisper = folder[0].decoder
    past = torch.zeros(1, 1, 16) + vector + whisper.embed_positions.weight[PROMPT] - whisper.embed_positions.weight[0]
    wanted = whisper(inputs_embeds=past, encoder_hidden_states=frames, use_cache=False).last_hidden_state
    torch.testing.assert_close(logits, decoder.out(wanted), atol=1e-5, rtol=1e-4)


def test_output_rows_begin_as_whispers_tokens(folder):
    units = Units(("<blank>", "<unk>", "天", "ba", "ab"))
    decoder = WhisperDecoder(NAR.model_copy(update={"pretrained": folder[1]}), units)
    rows = folder[0].decoder.embed_tokens.weight
    assert torch.equal(decoder.out.weight[2], rows[5]) and torch.equal(decoder.out.weight[4], rows[4])
    torch.testing.assert_close(decoder.out.weight[3], 0.7 * (rows[0] + rows[1]) / 2)
    assert not decoder.out.bias.any()


@torch.no_grad()
def test_what_sounds_alike_is_learned_together(tmp_path):
    (tmp_path / "units.txt").write_text("张\n章\n长\n三\n", encoding="utf-8")
    (tmp_path / "readings.txt").write_text("zhang1\nzhang1\nzhang3 chang2\n\n", encoding="utf-8")
    units = Units.load(tmp_path)
    decoder = WhisperDecoder(NAR, units).eval()
    x = torch.ones(16)
    assert not decoder.sounds(x).any(), "it begins without effect"
    decoder.sounds.parts.bias[:] = 1.0
    assert decoder.sounds(x).tolist() == pytest.approx([0, 0, 4, 4, 4, 0])  # initial, final, tone, syllable
    names = sorted({"zh-", "ch-", "-ang", "1", "2", "3", "zhang", "chang"})
    decoder.sounds.parts.bias[names.index("zhang")] = 2.0
    assert decoder.sounds(x).tolist() == pytest.approx([0, 0, 5, 5, 4.5, 0])
    (tmp_path / "readings.txt").write_text("zhang1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="1 lines for 4 units"):
        Units.load(tmp_path)


def test_dropout_is_the_recipes(folder):
    decoder = WhisperDecoder(NAR.model_copy(update={"dropout": 0.3, "pretrained": folder[1]}), Units(tuple("abcdef")))
    assert {block.layer.dropout for block in decoder.blocks} == {0.3}


@torch.no_grad()
def test_decoder_sees_both_sides_and_batch_equals_single():
    torch.manual_seed(4)
    decoder = WhisperDecoder(NAR, Units(tuple("abcdef"))).eval()
    vectors, lengths = torch.randn(2, 5, 16), torch.tensor([5, 3])
    frames = Foreign(torch.randn(2, 12, 16), torch.tensor([12, 7]))
    together = decoder(decoder.from_cif(vectors)[0], lengths, frames=frames)
    short = Foreign(frames.features[1:, :7], frames.lengths[1:])
    alone = decoder(decoder.from_cif(vectors[1:, :3])[0], lengths[1:], frames=short)
    torch.testing.assert_close(together[1, :3], alone[0], atol=1e-5, rtol=1e-4)
    vectors[0, 4] *= -1.0
    changed = decoder(decoder.from_cif(vectors)[0], lengths, frames=frames)
    assert not torch.equal(changed[0, 0], together[0, 0]), "the first character hears of the last"


def test_augmented_features_are_only_masked():
    features = speech_features(speech(3.0), SMALL)
    masked = augment(features, seeded(1), SMALL.form)
    assert masked.shape == features.shape and not torch.equal(masked, features)
    assert ((masked == features) | (masked == 0)).all()
