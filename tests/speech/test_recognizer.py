"""CIF-based recognition: both decoder forms, losses, beam search, and independence of the batch."""

import itertools

import pytest
import torch

from xllm.config import IGNORE, CIFConfig, DecoderConfig, RecognizerConfig, SpeechEncoderConfig
from xllm.speech.decoder import Foreign, SyllableHead
from xllm.speech.recognizer import Recognizer, flat_weights
from xllm.speech.units import BLANK, UNKNOWN, Units, syllable_parts

UNITS = Units(("<blank>", "<unk>", *"天地人你我"), ("<blank>", "<unk>", "tian1", "di4", "ren2", "ni3", "wo3"))


def make(form="nar", syllables=False, **decoder):
    torch.manual_seed(1)
    config = RecognizerConfig(
        encoder=SpeechEncoderConfig(channels=4, width=16, ffn=32, heads=2, kernel=5, blocks=2, pool_after=(1, 2)),
        cif=CIFConfig(channels=16),
        decoder=DecoderConfig(
            form=form,
            width=16,
            ffn=32,
            heads=2,
            blocks=2,
            syllables=syllables,
            visual_blocks=(1,),
            visual_width=6,
            linguistic_blocks=(2,),
            linguistic_width=5,
            **decoder,
        ),
    )
    recognizer = Recognizer(config, UNITS).eval()
    for block in recognizer.decoder.blocks:
        torch.nn.init.xavier_uniform_(block.cross.attention.out_proj.weight)  # which begins as zero
    return recognizer


@pytest.fixture(params=["nar", "ar", "nar-syllables", "ar-syllables"])
def recognizer(request):
    form, _, syllables = request.param.partition("-")
    return make(form, bool(syllables))


def batch(syllables=True):
    characters = torch.tensor([[2, 3, 4], [5, 6, IGNORE]])
    return {
        "characters": characters,
        "token_lengths": torch.tensor([3, 2]),
        "features": torch.randn(2, 80, 80),
        "feature_lengths": torch.tensor([80, 50]),
        "syllables": characters if syllables else None,
    }


def test_losses_reach_every_part(recognizer):
    recognizer.train()
    losses = recognizer.losses(**batch())
    assert {"loss", "ce", "quantity", "ctc"} <= set(losses)
    losses["loss"].backward()
    for part in (recognizer.encoder.blocks[0], recognizer.cif, recognizer.decoder.blocks[0], recognizer.ctc):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_batch_equals_single(recognizer):
    features, lengths = torch.randn(3, 160, 80), torch.tensor([160, 75, 33])
    together = recognizer.recognize(features, lengths)
    for row, length in enumerate(lengths.tolist()):
        (alone,) = recognizer.recognize(features[row : row + 1, :length], lengths[row : row + 1])
        assert alone.ids == together[row].ids
        assert alone.scores == pytest.approx(together[row].scores, abs=1e-4)
        assert alone.fires == pytest.approx(together[row].fires, abs=1e-3)


def test_blank_and_unknown_are_never_written(recognizer):
    with torch.no_grad():
        recognizer.decoder.out.bias[: UNKNOWN + 1] = 100.0
    written = recognizer.recognize(torch.randn(2, 200, 80), torch.tensor([200, 150]))
    assert any(r.ids for r in written)
    assert all(i > UNKNOWN for r in written for i in r.ids)
    assert BLANK == 0


@torch.no_grad()
def test_wide_beam_is_exhaustive_search():
    recognizer = make("ar")
    vectors = torch.randn(1, 3, 16)
    lengths = torch.tensor([3])
    read, _ = recognizer.decoder.from_cif(vectors)
    ids, scores = recognizer._beam_search(read, lengths, 10_000, None, None)

    def total(candidate):
        previous = recognizer._previous(torch.tensor([candidate]))
        log = recognizer._log_probabilities(read, lengths, previous, None, None)[0]
        return float(sum(log[i, c] for i, c in enumerate(candidate)))

    # The beam is at most the number of characters, 5: exact for the first two of three steps, so the best of all
    # continuations of all pairs is found whenever its prefix is among the five best; random models of this size agree.
    best = max(itertools.product(range(2, 7), repeat=3), key=total)
    assert total(tuple(ids[0].tolist())) == pytest.approx(float(scores.sum()), abs=1e-4)
    assert total(tuple(ids[0].tolist())) == pytest.approx(total(best), abs=1e-4)


def test_beam_is_never_worse_than_greedy():
    recognizer = make("ar")
    features, lengths = torch.randn(4, 240, 80), torch.tensor([240, 200, 120, 64])
    greedy = recognizer.recognize(features, lengths, beam=1)
    wide = recognizer.recognize(features, lengths, beam=5)
    assert any(len(r.ids) > 3 for r in wide)
    for a, b in zip(greedy, wide, strict=True):
        assert sum(b.scores) >= sum(a.scores) - 1e-4


def test_autoregressive_form_sees_no_future():
    recognizer = make("ar")
    vectors = torch.randn(1, 4, 16)
    characters = torch.tensor([[2, 3, 4, 5]])
    lengths = torch.tensor([4])
    read, _ = recognizer.decoder.from_cif(vectors)
    before = recognizer.decoder(read, lengths, recognizer._previous(characters))
    changed = vectors.clone()
    changed[:, 3] += 1.0
    read, _ = recognizer.decoder.from_cif(changed)
    after = recognizer.decoder(read, lengths, recognizer._previous(torch.tensor([[2, 3, 4, 6]])))
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])


def test_absent_visual_and_linguistic_features_are_zero_vectors():
    recognizer = make()
    read, lengths = torch.randn(1, 3, 16), torch.tensor([3])

    def of(features):
        return Foreign(features, torch.tensor([features.shape[1]]))

    absent = recognizer.decoder(read, lengths)
    zeros = recognizer.decoder(read, lengths, None, of(torch.zeros(1, 7, 6)), of(torch.zeros(1, 4, 5)))
    there = recognizer.decoder(read, lengths, None, of(torch.randn(1, 7, 6)), of(torch.zeros(1, 4, 5)))
    torch.testing.assert_close(absent, zeros)
    assert not torch.allclose(absent, there)


@pytest.mark.parametrize("form", ["nar", "ar"])
def test_a_batch_may_see_pictures_of_several_sizes_and_none(form):
    recognizer = make(form).eval()
    features, lengths = torch.randn(3, 120, 80), torch.tensor([120, 90, 100])
    seen = [torch.randn(4, 6), None, torch.randn(9, 6)]
    together = recognizer.recognize(features, lengths, visual=Foreign.of(seen, 6))
    for row, visual in enumerate(seen):
        one = slice(row, row + 1)
        alone = recognizer.recognize(features[one, : lengths[row]], lengths[one], visual=Foreign.of([visual], 6))
        assert alone[0].ids == together[row].ids
        assert alone[0].scores == pytest.approx(together[row].scores, abs=1e-4)
    assert Foreign.of([None, None], 6) is None


def test_text_alone_trains_the_decoder_and_not_the_encoder():
    recognizer = make(syllables=True).train()
    given = batch()
    losses = recognizer.losses(given["characters"], given["token_lengths"], syllables=given["syllables"])
    losses["loss"].backward()
    assert recognizer.decoder.syllable_embedding.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in recognizer.encoder.parameters())
    with pytest.raises(ValueError, match="syllables"):
        make(syllables=False).losses(given["characters"], given["token_lengths"])


def test_nothing_said_is_an_empty_recognition(recognizer):
    with torch.no_grad():
        for parameter in recognizer.cif.parameters():
            parameter.zero_()
        list(recognizer.cif.parameters())[-1].fill_(-30.0)  # the weight predictor's last bias: never fires
    (result,) = recognizer.recognize(torch.randn(1, 90, 80), torch.tensor([90]))
    assert result.ids == [] and result.fires == []


def test_flat_start_spreads_tokens_over_sound_and_teaches_cif():
    features = torch.full((2, 80, 80), -1.0)
    features[0, 16:64] = 1.0
    features[1, 8:40] = 1.0
    weights = flat_weights(features, torch.tensor([10, 5]), torch.tensor([3, 2]), 8)
    assert weights.sum(1).tolist() == pytest.approx([3, 2])
    assert weights[0, 2:8].tolist() == pytest.approx([0.5] * 6, abs=0.01) and not weights[1, 5:].any()
    recognizer = make().train()
    losses = recognizer.losses(**batch(), flat_start=True)
    losses["alignment"].backward()
    assert recognizer.cif.weight.weight.grad.abs().sum() > 0
    assert "alignment" not in recognizer.losses(**batch())


def test_syllables_share_their_parts():
    head = SyllableHead(4, ("<blank>", "<unk>", "zhang3", "zhang4", "ma3"))
    before = head(torch.ones(4))
    assert syllable_parts("zhang3") == ("zh-", "-ang", "3") and syllable_parts("an1") == ("-", "-an", "1")
    with torch.no_grad():
        head.parts.bias[head.parts.bias.shape[0] - 1] += 1.0  # `zh-`, last in the sorted parts
    assert (head(torch.ones(4)) - before).tolist() == pytest.approx([0, 0, 1, 1, 0], abs=1e-6)


def test_the_interface_reads_cif_vectors_or_probabilities_of_characters():
    features, lengths = torch.randn(2, 80, 80), torch.tensor([80, 50])
    for recognizer in (make(), make(syllables=True)):
        out = recognizer.encode(features, lengths)
        tokens = recognizer.tokens(out)
        assert tokens.shape == (*out.cif.embeddings.shape[:2], recognizer.token_width)
        if not recognizer.reads_characters:
            assert torch.equal(tokens, out.cif.embeddings)
            continue
        torch.testing.assert_close(tokens.sum(-1), torch.ones(tokens.shape[:2]))
        sure = recognizer.tokens_of_syllables(torch.tensor([2, 4, 3]))
        spelled = recognizer.decoder(recognizer.decoder.from_syllables(torch.tensor([[2, 4, 3]])), torch.tensor([3]))
        assert sure.shape == (3, recognizer.token_width)
        assert torch.equal(sure.argmax(-1), spelled[0].argmax(-1))
        nothing = out.cif._replace(embeddings=out.cif.embeddings[:, :0], lengths=torch.tensor([0, 0]))
        silence = out._replace(cif=nothing)
        assert recognizer.tokens(silence).shape == (2, 0, recognizer.token_width)
