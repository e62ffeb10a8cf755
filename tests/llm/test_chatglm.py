"""ChatGLM-6B: published names load, the formulae hold, cache = no cache, batch = single, the prefix sees itself."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file
from sentencepiece import SentencePieceTrainer

from xllm.config import LLMConfig
from xllm.drafting import verify
from xllm.errors import ConfigError
from xllm.generation import generate
from xllm.llm.causal import CausalLM
from xllm.llm.chatglm import ChatGLM, ChatGLMConfig, ChatGLMModel
from xllm.prompt import Prompt

WIDTH, HEADS, LAYERS = 32, 2, 2
TEXT = "天地人你我他是一个大小请根据图片回答问题语音识别"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny ChatGLM in the published form: two .bin shards, config.json, ice_text.model."""
    folder = tmp_path_factory.mktemp("chatglm")
    (folder / "text.txt").write_text("\n".join([TEXT, "Question: Answer: <Speech></Speech><Image></Image>"] * 30))
    symbols = ["<n>", "<|tab|>", *(f"<|blank_{count}|>" for count in range(2, 9))]
    SentencePieceTrainer.train(
        input=str(folder / "text.txt"),
        model_prefix=str(folder / "ice_text"),
        vocab_size=110,
        user_defined_symbols=symbols,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    sizes = {
        "vocab_size": 130,
        "hidden_size": WIDTH,
        "inner_hidden_size": 64,
        "num_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_sequence_length": 256,
        "gmask_token_id": 121,
        "bos_token_id": 124,
        "eos_token_id": 125,
    }
    (folder / "config.json").write_text(json.dumps({"model_type": "chatglm", "pad_token_id": 3, **sizes}))
    torch.manual_seed(0)
    model = ChatGLMModel(ChatGLMConfig(**sizes))
    values = {name: torch.randn_like(value) * 0.2 for name, value in model.named_parameters()}
    values["transformer.rotary_emb.inv_freq"] = torch.ones(3)
    names = sorted(values)
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        torch.save({name: values[name] for name in part}, folder / f"pytorch_model-0000{number}-of-00002.bin")
    return folder


@pytest.fixture(scope="module")
def llm(folder):
    return CausalLM.build(LLMConfig(name=str(folder)), None).eval()


def reference(weights, embeds, end):
    """Logits [L, V] of one row of embeddings [L, D], `<sop>` at place `end`: a loop over the formulae of FACTS 5."""
    weights = {name: value.double() for name, value in weights.items()}
    length, head = len(embeds), WIDTH // HEADS
    quarter = head // 4
    x = embeds.double()

    def norm(value, name):
        mean = value.mean(-1, keepdim=True)
        deviation = ((value - mean) ** 2).mean(-1, keepdim=True)
        return (value - mean) / (deviation + 1e-5).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(value, name):
        return value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def rotate(vector, position):
        out = vector.clone()
        for i in range(quarter):
            angle = position / 10000 ** (i / quarter)
            a, b = vector[i], vector[i + quarter]
            out[i] = a * math.cos(angle) - b * math.sin(angle)
            out[i + quarter] = b * math.cos(angle) + a * math.sin(angle)
        return out

    places = [(i, 0) if i < end else (end - 1, i - end + 1) for i in range(length)]
    for number in range(LAYERS):
        at = f"transformer.layers.{number}"
        x = norm(x, f"{at}.input_layernorm")
        mixed = torch.zeros_like(x)
        qkv = linear(x, f"{at}.attention.query_key_value").view(length, HEADS, 3, head)
        for h in range(HEADS):
            turned = [
                [
                    torch.cat(
                        [rotate(qkv[i, h, part, : head // 2], place), rotate(qkv[i, h, part, head // 2 :], block)]
                    )
                    for i, (place, block) in enumerate(places)
                ]
                for part in (0, 1)
            ]
            for i in range(length):
                seen = [j for j in range(length) if j <= i or j < end]
                scores = torch.stack([turned[0][i] @ turned[1][j] / math.sqrt(head) for j in seen]).softmax(0)
                mixed[i, h * head : (h + 1) * head] = sum(s * qkv[j, h, 2] for s, j in zip(scores, seen, strict=True))
        x = x * math.sqrt(2 * LAYERS) + linear(mixed, f"{at}.attention.dense")
        x = norm(x, f"{at}.post_attention_layernorm")
        inner = torch.nn.functional.gelu(linear(x, f"{at}.mlp.dense_h_to_4h"), approximate="tanh")
        x = x * math.sqrt(2 * LAYERS) + linear(inner, f"{at}.mlp.dense_4h_to_h")
    return norm(x, "transformer.final_layernorm") @ weights["lm_head.weight"].T


def prompts(llm, count=3, seed=0):
    """Left-padded prompts with media embeddings in them."""
    generator = torch.Generator().manual_seed(seed)
    media = [{"speech": [torch.randn(2 + 3 * row, WIDTH, generator=generator)]} for row in range(count)]
    return Prompt(llm.tokenizer).build(llm, ["请识别语音"] * count, media)


@torch.no_grad()
def test_it_computes_the_formulae(llm):
    embeds, mask, _ = prompts(llm)
    answer = llm.embed([20, 21, 22])[None].expand(3, -1, -1)
    embeds, mask = torch.cat([embeds, answer], 1), torch.cat([mask, mask.new_ones(3, 3)], 1)
    hidden, _ = llm(embeds, mask)
    weights = dict(llm.model.named_parameters())
    for row in range(3):
        own = embeds[row][mask[row]]
        wanted = reference(weights, own, len(own) - 4)
        assert torch.allclose(llm.head(hidden[row][mask[row]]).double(), wanted, atol=2e-3, rtol=1e-3)


@torch.no_grad()
def test_batched_cached_generation_is_that_of_one_row_without_cache(llm):
    embeds, mask, _ = prompts(llm, 4)
    together = generate(llm, embeds, mask, [9, 4, 12, 7])
    for row, limit in enumerate([9, 4, 12, 7]):
        own, ids = embeds[row][mask[row]][None], []
        while len(ids) < limit:
            hidden, _ = llm(own, torch.ones(own.shape[:2], dtype=torch.bool))
            token = int(llm.head(hidden[:, -1]).argmax())
            if token in llm.end_ids:
                break
            ids.append(token)
            own = torch.cat([own, llm.embed([token])[None]], 1)
        assert together[row].ids == ids[: len(together[row].ids)] and (
            len(ids) == len(together[row].ids) or len(ids) > 7
        )
    drafts = [answer.ids[:3] + [9] + answer.ids[3:] for answer in together]
    for size in (4, 3, 2, 1):  # the last ones join a batch at work
        made = verify(llm, lambda rows: (embeds[rows], mask[rows]), [9, 4, 12, 7], drafts, size)
        assert [answer.ids for answer in made.answers] == [answer.ids for answer in together]


@torch.no_grad()
def test_the_prompt_sees_all_of_itself_and_nothing_of_the_answer(llm):
    embeds, mask, _ = prompts(llm, 1)
    answer = llm.embed([20, 21])[None]
    embeds, mask = torch.cat([embeds, answer], 1), torch.cat([mask, mask.new_ones(1, 2)], 1)
    end = embeds.shape[1] - 3  # where <sop> is
    before, _ = llm(embeds, mask)
    late = embeds.clone()
    late[0, end - 2] = torch.randn(WIDTH)
    assert not torch.allclose(llm(late, mask)[0][0, 0], before[0, 0], atol=1e-4), "an early state sees a late token"
    answered = embeds.clone()
    answered[0, -1] = torch.randn(WIDTH)
    after = llm(answered, mask)[0]
    assert torch.equal(after[0, :-1], before[0, :-1]) and not torch.equal(after[0, -1], before[0, -1])


def test_half_angles_are_those_of_the_release(folder):
    """Exact ones differ by up to 0.12 within 512 places (FACTS 5)."""
    from xllm.llm.chatglm import _angles

    places = torch.arange(512)[None]
    exact, rounded = _angles(places, 64)[0], _angles(places, 64, half=True)[0]
    assert 0.05 < (exact - rounded).abs().max() < 0.25 and (exact - rounded)[..., :2, :].abs().max() < 1e-3
    release = (places.half()[0, :, None] * (10000.0 ** (-torch.arange(0, 64, 2) / 64)).half()).cos()
    assert torch.equal(rounded[0, 0, :, :32], release.float())
    loaded = CausalLM.build(LLMConfig(name=str(folder), half_angles=True), None)
    assert loaded.half_angles and not ChatGLM.half_angles


def test_safetensors_are_the_same_and_what_is_wrong_is_told(folder, llm, tmp_path):
    for name in ("config.json", "ice_text.model"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    values = {name: value.detach().clone() for name, value in llm.model.named_parameters()}
    save_file(values, tmp_path / "model.safetensors")
    other = ChatGLM.load(tmp_path)
    assert all(torch.equal(value, values[name]) for name, value in other.model.named_parameters())
    for spoil, words in (
        (lambda v: v.pop("lm_head.weight"), "has no weights for lm_head.weight"),
        (lambda v: v.update({"lm_head.weight": torch.zeros(2, 2)}), r"lm_head.weight is \(2, 2\)"),
    ):
        broken = dict(values)
        spoil(broken)
        save_file(broken, tmp_path / "model.safetensors")
        with pytest.raises(ConfigError, match=words):
            ChatGLM.load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"x": print}, tmp_path / "pytorch_model.bin")  # code instead of numbers
    with pytest.raises(ConfigError, match="a pickle of more than tensors"):
        ChatGLM.load(tmp_path)


def test_the_tokenizer_gives_back_what_it_was_given(llm):
    for text in ("天地人", "请根据图片\n回答  问题\t一", "", "   大小"):
        ids = llm.tokenizer(text)["input_ids"]
        assert llm.tokenizer.decode([*ids, 125]) == text
    ids = Prompt(llm.tokenizer).ids("请识别语音", {"speech": [[7, 8]]})
    assert ids[-2:] == [121, 124] and [7, 8] == ids[ids.index(7) : ids.index(7) + 2]


def test_the_published_size():
    with torch.device("meta"):
        model = ChatGLMModel(ChatGLMConfig())
    width, inner, words = 4096, 16384, 130528
    layer = 4 * width**2 + 2 * width * inner + (3 + 1 + 1 + 4) * width + inner
    body = 28 * layer + 2 * width
    assert body + words * width == 6_173_286_400, "as its authors count it: the table of words once"
    assert sum(p.numel() for p in model.parameters()) == body + 2 * words * width
    assert model.transformer.layers[27].attention.query_key_value.weight.shape == (12288, 4096)


def test_a_system_around_it_trains_its_interface_and_answers(folder, small_config):
    from xllm.model import XLLM

    torch.manual_seed(0)
    config = small_config.model_copy(update={"llm": LLMConfig(name=str(folder))})
    model = XLLM(config, ("recognizer", "speech", "llm"))
    model.llm.requires_grad_(False)
    tokens = [{"speech": [torch.randn(3, model.recognizer.token_width)]} for _ in range(2)]
    losses = model.response_loss(tokens, [{}, {}], ["请识别语音"] * 2, ["天地人", "你我"])
    losses["loss"].backward()
    assert model.speech.adapter.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.llm.parameters())
    waves = [torch.randn(16000), torch.randn(12000)]
    drafted = model.eval().transcribe(waves)
    model.drafts = False
    assert [one.text for one in model.transcribe(waves)] == [one.text for one in drafted]
