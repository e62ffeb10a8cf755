"""Greedy decoding: cache equals no cache, batch equals single, and loops end."""

import pytest
import torch

from xllm.config import LLMConfig
from xllm.generation import greedy, repeats
from xllm.llm.causal import CausalLM


@pytest.fixture
def llm(small_tokenizer):
    torch.manual_seed(3)
    model = CausalLM.build(LLMConfig(width=32, ffn=64, heads=2, layers=2, max_tokens=128), small_tokenizer).eval()
    with torch.no_grad():  # spread logits, so that ties of a random model do not decide
        model.model.get_input_embeddings().weight.mul_(20)
    return model


def without_cache(llm, embeds, mask, limit):
    ids, scores = [], []
    while len(ids) < limit:
        hidden, _ = llm(embeds, mask)
        score, token = llm.head(hidden[:, -1]).log_softmax(-1).max(-1)
        if int(token) in llm.end_ids:
            break
        ids.append(int(token))
        scores.append(float(score))
        if repeats(ids):
            break
        embeds = torch.cat([embeds, llm.embed(token)[:, None]], dim=1)
        mask = torch.cat([mask, mask.new_ones(1, 1)], dim=1)
    return ids, scores


@torch.no_grad()
def test_batched_with_cache_equals_single_without(llm):
    lengths, size = [9, 4, 6], 9
    embeds, mask = torch.zeros(3, size, 32), torch.zeros(3, size, dtype=torch.bool)
    for row, length in enumerate(lengths):
        embeds[row, size - length :] = torch.randn(length, 32)
        mask[row, size - length :] = True
    limits = [12, 3, 7]
    together = greedy(llm, embeds, mask, limits)
    assert any(len(answer.ids) > 1 for answer in together)
    for row, length in enumerate(lengths):
        ids, scores = without_cache(
            llm, embeds[row : row + 1, size - length :], mask[row : row + 1, size - length :], limits[row]
        )
        assert together[row].ids == ids
        assert together[row].scores == pytest.approx(scores, abs=1e-4)


def test_a_limit_of_zero_writes_nothing(llm):
    answers = greedy(llm, torch.randn(2, 3, 32), torch.ones(2, 3, dtype=torch.bool), [0, 2])
    assert answers[0].ids == [] and len(answers[1].ids) <= 2


@pytest.mark.parametrize(
    "ids, loop",
    [
        ([1] * 8, True),
        ([1] * 7, False),
        ([1, 2] * 4, True),
        ([5, 1, 2, 1, 2, 1, 2], False),
        ([1, 2, 3, 4] * 4, True),
        ([3, 3, 1, 2, 3, 3, 1, 2], False),
        ([], False),
    ],
)
def test_repetition_guard(ids, loop):
    assert repeats(ids) is loop
