"""The prompt of 3.2.3: its text, media spliced in, padding masked, loss on the answer alone."""

import pytest
import torch

from xllm.config import IGNORE, LLMConfig
from xllm.instructions import INSTRUCTIONS
from xllm.llm.causal import CausalLM
from xllm.prompt import Prompt


@pytest.fixture
def llm(small_tokenizer):
    torch.manual_seed(0)
    return CausalLM.build(LLMConfig(width=16, ffn=32, heads=2, layers=2, max_tokens=128), small_tokenizer).eval()


def slots(name, embeddings, lengths):
    return [{name: [row[:n]]} for row, n in zip(embeddings, lengths, strict=True)]


def test_template_is_the_papers():
    pieces = Prompt.pieces("看图听音", ["speech", "image"])
    assert "…".join(pieces) == "<Image>…</Image><Speech>…</Speech>Question: 看图听音 \n Answer:"
    assert Prompt.pieces("问", []) == ["Question: 问 \n Answer:"]


def test_several_pictures_and_earlier_turns():
    history = [{"instruction": "人", "response": "地"}]
    pieces = Prompt.pieces("天", ["image", "video", "image"], history)
    assert "…".join(pieces) == (
        "<Image>…</Image><Image>…</Image><Video>…</Video>Question: 人 \n Answer:地\nQuestion: 天 \n Answer:"
    )


def test_embeddings_equal_the_text_they_stand_for(llm):
    prompt = Prompt(llm.tokenizer)
    told = {"speech": [prompt.spell("ni3 wo3")], "image": [prompt.tokens("天"), prompt.tokens("地人")]}
    history = [{"instruction": "人", "response": "地"}]
    shown = {name: [llm.embed(ids) for ids in slots] for name, slots in told.items()}
    batch = prompt.build(llm, [INSTRUCTIONS["asr"][0]], [shown], ["你我"], [history])
    ids, answer = prompt.ids(INSTRUCTIONS["asr"][0], told, history), prompt.answer("你我")
    torch.testing.assert_close(batch.embeds[0], llm.embed(ids + answer))
    assert batch.targets[0].tolist() == [IGNORE] * len(ids) + answer
    assert answer[-1] == llm.tokenizer.eos_token_id


def test_rows_of_one_batch_may_have_different_media(llm):
    prompt = Prompt(llm.tokenizer)
    media = [{"image": [torch.randn(3, 16)], "speech": [torch.randn(2, 16)]}, {}, {"video": [torch.randn(4, 16)]}]
    batch = prompt.build(llm, ["天", "地", "人"], media)
    for row, medium in enumerate(media):
        alone = prompt.build(llm, ["天地人"[row]], [medium])
        torch.testing.assert_close(batch.embeds[row][batch.mask[row]], alone.embeds[0])


def test_rows_are_padded_on_the_left_and_their_padding_does_not_matter(llm):
    prompt = Prompt(llm.tokenizer)
    speech = torch.randn(2, 5, 16)
    lengths = torch.tensor([5, 2])
    both = prompt.build(llm, ["语音", "识别语音"], slots("speech", speech, lengths), ["天地", "人"])
    alone = prompt.build(llm, ["识别语音"], [{"speech": [speech[1, :2]]}], ["人"])
    size = alone.mask.shape[1]
    assert both.mask[1].tolist() == [False] * (both.mask.shape[1] - size) + [True] * size
    a, _ = llm(both.embeds, both.mask)
    b, _ = llm(alone.embeds, alone.mask)
    torch.testing.assert_close(a[1, -size:], b[0], atol=1e-5, rtol=1e-4)


def test_loss_on_answer_positions_equals_loss_from_full_logits(llm):
    prompt = Prompt(llm.tokenizer)
    batch = prompt.build(llm, ["语音", "识别"], slots("speech", torch.randn(2, 3, 16), [3, 1]), ["天地", "人"])
    loss, wrong = llm.answer_loss(*batch)
    logits = llm.model(
        inputs_embeds=batch.embeds,
        attention_mask=batch.mask.long(),
        position_ids=(batch.mask.long().cumsum(-1) - 1).clamp(min=0),
    ).logits
    full = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch.targets[:, 1:].flatten(), ignore_index=IGNORE
    )
    torch.testing.assert_close(loss, full)
    assert 0 <= wrong <= 1


def test_counts_that_differ_raise(llm):
    with pytest.raises(ValueError, match="2 instructions, but 1"):
        Prompt(llm.tokenizer).build(llm, ["a", "b"], [{}])
