"""Decoding: cache equals no cache, batch equals single, loops end, and sampling keeps to its limits."""

import pytest
import torch

from xllm.config import LLMConfig
from xllm.generation import Sampling, choose, generate, repeats, steps
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
    together = generate(llm, embeds, mask, limits)
    assert any(len(answer.ids) > 1 for answer in together)
    for row, length in enumerate(lengths):
        ids, scores = without_cache(
            llm, embeds[row : row + 1, size - length :], mask[row : row + 1, size - length :], limits[row]
        )
        assert together[row].ids == ids
        assert together[row].scores == pytest.approx(scores, abs=1e-4)


def test_a_limit_of_zero_writes_nothing(llm):
    answers = generate(llm, torch.randn(2, 3, 32), torch.ones(2, 3, dtype=torch.bool), [0, 2])
    assert answers[0].ids == [] and len(answers[1].ids) <= 2


def test_steps_tell_what_generate_collects(llm):
    embeds, mask = torch.randn(2, 3, 32), torch.ones(2, 3, dtype=torch.bool)
    whole = generate(llm, embeds, mask, [5, 9])
    told = list(steps(llm, embeds, mask, [5, 9]))
    for row in range(2):
        assert [step[row][0] for step in told if row in step] == whole[row].ids


def test_sampling_keeps_to_top_k_and_top_p():
    log = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(2000, 4)
    draw = torch.Generator().manual_seed(0)

    def drawn(**options):
        counts = choose(log, Sampling(temperature=1.0, **options), draw)[0].bincount(minlength=4)
        return (counts / 2000).tolist()

    assert drawn() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.05)
    assert drawn(top_k=2) == pytest.approx([0.625, 0.375, 0, 0], abs=0.05)
    assert drawn(top_p=0.7) == pytest.approx([0.625, 0.375, 0, 0], abs=0.05)
    assert drawn(top_p=0.0) == [1, 0, 0, 0]
    assert choose(log)[0].tolist() == [0] * 2000


def test_the_same_seed_draws_the_same(llm):
    embeds, mask = torch.randn(2, 3, 32), torch.ones(2, 3, dtype=torch.bool)
    sampled = [generate(llm, embeds, mask, [9, 9], Sampling(temperature=1.5, seed=seed)) for seed in (4, 4, 5)]
    assert sampled[0] == sampled[1] != sampled[2]


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
