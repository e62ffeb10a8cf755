"""Draft and verify: greedy search's answer, whatever the draft, in fewer passes where the draft is good."""

import random

import pytest
import torch

from xllm.config import LLMConfig
from xllm.drafting import continue_at, verify
from xllm.generation import generate
from xllm.llm.causal import CausalLM
from xllm.pace import Pace

WIDTH = 32


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    from xllm.corpora.tiny_text import write_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, list("天地人你我他请忠实地识别语音"), ["di4", "ni3", "ren2", "ta1", "tian1", "wo3"])
    torch.manual_seed(3)
    model = CausalLM.build(LLMConfig(width=WIDTH, ffn=64, heads=2, layers=2, max_tokens=256), folder).eval()
    with torch.no_grad():  # a random model would say the same for ever
        model.model.get_input_embeddings().weight.mul_(20)
        for parameter in model.model.model.layers.parameters():
            parameter.mul_(2)
    return model


def prompts(chance, count):
    generator = torch.Generator().manual_seed(chance.randrange(1 << 30))
    lengths = [chance.randrange(2, 12) for _ in range(count)]
    size = max(lengths)
    embeds, mask = torch.zeros(count, size, WIDTH), torch.zeros(count, size, dtype=torch.bool)
    for row, length in enumerate(lengths):
        embeds[row, size - length :] = torch.randn(length, WIDTH, generator=generator)
        mask[row, size - length :] = True
    return embeds, mask, [chance.choice([0, 1, 2, 5, 9, 14, 20]) for _ in range(count)]


def given(embeds, mask):
    """Prompts of some rows, without the padding that they do not need."""

    def build(numbers):
        columns = mask[numbers].any(0)
        return embeds[numbers][:, columns], mask[numbers][:, columns]

    return build


def spoiled(chance, ids, share, vocabulary):
    """Ids with a share of them replaced, left out or put in."""
    out = []
    for token in ids:
        if chance.random() >= share:
            out.append(token)
            continue
        kind = chance.randrange(3)
        out += [[], [chance.randrange(vocabulary)], [token, chance.randrange(vocabulary)]][kind]
    return out


def adversarial(chance, ids, vocabulary):
    """Drafts that nobody would write."""
    return chance.choice(
        [
            [],
            [chance.randrange(vocabulary)] * 40,
            ids[::-1],
            ids[1:],
            ids[:1] * 3 + ids,
            ids + ids,
            [token for token in ids for _ in (1, 2)],
            [chance.randrange(vocabulary) for _ in range(chance.randrange(60))],
            [1, *ids, 1, *ids],
        ]
    )


class Erratic(Pace):
    """Looks ahead as far as it happens to."""

    def __init__(self, chance):
        super().__init__()
        self.chance = chance

    def width(self, rows, most):
        return self.chance.randint(0, most)


def test_answers_are_those_of_greedy_search_always(llm):
    """Thousands of rows: ragged batches, drafts perfect, good, bad, empty, too long and hostile, at any width."""
    chance, vocabulary, rows, pace = random.Random(0), llm.embeddings.shape[0], 0, Pace()
    while rows < 3000:
        embeds, mask, limits = prompts(chance, chance.choice([1, 1, 2, 5, 8]))
        greedy = generate(llm, embeds, mask, limits)
        drafts = []
        for answer in greedy:
            share = chance.choice([0.0, 0.05, 0.2, 0.6])
            bad = adversarial(chance, answer.ids, vocabulary)
            drafts.append(bad if chance.random() < 0.3 else spoiled(chance, answer.ids, share, vocabulary))
        size = chance.choice([1, 2, 3, 8])
        how = chance.choice([None, pace, Erratic(chance)])
        answers, passes = verify(llm, given(embeds, mask), limits, drafts, size, how)
        assert [answer.ids for answer in answers] == [answer.ids for answer in greedy]
        for one, other, count, limit in zip(answers, greedy, passes, limits, strict=True):
            assert one.scores == pytest.approx(other.scores, abs=1e-4)
            assert count <= min(limit, len(one.ids) + 1), "never more passes than tokens"
        rows += len(limits)


def test_a_perfect_draft_takes_one_pass_and_a_wrong_token_one_more(llm):
    chance = random.Random(1)
    embeds, mask, _ = prompts(chance, 6)
    limits = [20] * 6
    greedy = generate(llm, embeds, mask, limits)
    assert verify(llm, given(embeds, mask), limits, [answer.ids for answer in greedy]).passes == [1] * 6
    for change in (
        lambda ids: [*ids[:3], 2, *ids[4:]],
        lambda ids: ids[:3] + ids[4:],
        lambda ids: [*ids[:3], 2, *ids[3:]],
    ):
        drafts = [change(answer.ids) for answer in greedy]
        passes = verify(llm, given(embeds, mask), limits, drafts).passes
        assert sum(passes) <= 2.4 * len(passes), passes


def test_a_draft_without_punctuation_pays(llm):
    """A recogniser writes none: each mark of the LLM's costs one pass, all that stands between them is accepted."""
    chance, marks = random.Random(2), {llm.tokenizer.convert_tokens_to_ids(mark) for mark in "，。？！ab"}
    embeds, mask, _ = prompts(chance, 40)
    limits = [24] * 40
    greedy = generate(llm, embeds, mask, limits)
    drafts = [[token for token in answer.ids if token not in marks] for answer in greedy]
    put_in = [len(answer.ids) - len(draft) for answer, draft in zip(greedy, drafts, strict=True)]
    assert sum(put_in) > 5, "some were left out"
    answers, passes = verify(llm, given(embeds, mask), limits, drafts, 40)
    assert [answer.ids for answer in answers] == [answer.ids for answer in greedy]
    assert all(count <= 1 + left for count, left in zip(passes, put_in, strict=True)), (passes, put_in)


def test_alignment_goes_on_at_the_right_place():
    draft = [1, 2, 3, 4, 5, 6]
    assert continue_at(draft, [1, 2, 9], 2) == 3, "a substitution"
    assert continue_at(draft, [1, 2, 4], 2) == 4, "one left out"
    assert continue_at(draft, [1, 2, 9, 3], 3) == 3, "one put in"
    assert continue_at(draft, [4], 0) in (1, 4) and continue_at([], [1], 0) == 0
