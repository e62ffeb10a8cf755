"""Prompts within a model's own chat template: the ids are the template's, media stand in the user's first turn."""

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from xllm.config import IGNORE, LLMConfig
from xllm.errors import ConfigError
from xllm.generation import generate
from xllm.llm.causal import CausalLM
from xllm.model import XLLM
from xllm.prompt import Prompt

# After the published ones, without what is about tools.
CHATML = (  # Qwen3, which begins an answer with an empty thought where it is told not to think
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
GLM4 = (  # an answer has no end of its own but the beginning of the next question
    "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TEMPLATES = {
    "qwen3": (CHATML, "<|im_end|>"),
    "llama": (LLAMA, "<|eot_id|>"),
    "gemma": (GEMMA, "<end_of_turn>"),
    "glm4": (GLM4, "<|user|>"),
}
CONTROL = [
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
]
CONTROL += ["<start_of_turn>", "<end_of_turn>", "[gMASK]", "<sop>", "<|user|>", "<|assistant|>"]
HISTORY = [{"instruction": "天？", "response": "地"}, {"instruction": "人", "response": "你我"}]


@pytest.fixture(params=TEMPLATES)
def chat(request, small_tokenizer, tmp_path):
    """A tokenizer that joins letters, so that a piece cut elsewhere has other ids; and its token that ends a turn."""
    template, end = TEMPLATES[request.param]
    pieces = [
        "<pad>",
        "<unk>",
        "<s>",
        "</s>",
        *map(chr, range(32, 127)),
        "\n",
        *"天地人你我他？",
        "er",
        "ns",
        "swer",
        "an",
        ">Q",
    ]
    letters = Tokenizer(
        models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="<unk>", continuing_subword_prefix="")
    )
    letters.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s|[^\s]+"), behavior="isolated")
    letters.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=letters, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        chat_template=template,
    )  # fmt: skip
    tokenizer.add_special_tokens({"additional_special_tokens": CONTROL})
    return tokenizer, tokenizer.convert_tokens_to_ids(end)


@pytest.fixture
def llm(chat):
    tokenizer, _ = chat
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return CausalLM(LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)), tokenizer).eval()


def messages(question, history=()):
    said = []
    for turn in history:
        said += [{"role": "user", "content": f"Question: {turn['instruction']} \n Answer:"}]
        said += [{"role": "assistant", "content": turn["response"]}]
    return [*said, {"role": "user", "content": f"Question: {question} \n Answer:"}]


@pytest.mark.parametrize("history", [(), HISTORY[:1], HISTORY])
def test_without_media_the_ids_are_the_templates(chat, llm, history):
    tokenizer, end = chat
    prompt = Prompt(tokenizer, chat=True)
    own = tokenizer.apply_chat_template(
        messages("他", history), add_generation_prompt=True, enable_thinking=False, return_dict=False
    )
    assert prompt.ids("他", {}, history) == own
    batch = prompt.build(llm, ["他"], [{}], ["天地"], [history])
    torch.testing.assert_close(batch.embeds[0], llm.embed([*own, *prompt.answer("天地")]))
    assert prompt.answer("天地") == [*prompt.tokens("天地"), end]
    assert batch.targets[0].tolist() == [IGNORE] * len(own) + prompt.answer("天地")


@pytest.mark.parametrize("history", [(), HISTORY])
def test_media_stand_between_their_tags_in_the_first_turn(chat, llm, history):
    tokenizer, _ = chat
    prompt = Prompt(tokenizer, chat=True)
    names = ["image", "image", "speech"]
    pieces = prompt.around("他", names, history)
    first, *rest = messages("他", history)
    first["content"] = "<Image></Image><Image></Image><Speech></Speech>" + first["content"]
    whole = tokenizer.apply_chat_template(
        [first, *rest], add_generation_prompt=True, enable_thinking=False, tokenize=False
    )
    assert "".join(pieces) == whole
    assert [piece.rpartition("<")[2] for piece in pieces[:3]] == ["Image>", "Image>", "Speech>"]
    media = {"image": [torch.randn(3, 16), torch.randn(2, 16)], "speech": [torch.randn(4, 16)]}
    embeds = prompt.build(llm, ["他"], [media], None, [history]).embeds[0]
    at = 0
    for piece, slot in zip(pieces, [*media["image"], *media["speech"], torch.zeros(0, 16)], strict=True):
        ids = prompt.tokens(piece)
        torch.testing.assert_close(embeds[at : at + len(ids)], llm.embed(ids))
        at += len(ids)
        assert torch.equal(embeds[at : at + len(slot)], slot)
        at += len(slot)
    assert at == len(embeds)


def test_told_and_shown_media_stand_in_the_same_places(chat, llm):
    prompt = Prompt(chat[0], chat=True)
    told = {"image": [prompt.tokens("天")], "speech": [prompt.tokens("地人")]}
    shown = {name: [llm.embed(ids) for ids in slots] for name, slots in told.items()}
    batch = prompt.build(llm, ["他"], [shown], None, [HISTORY])
    torch.testing.assert_close(batch.embeds[0], llm.embed(prompt.ids("他", told, HISTORY)))


def test_what_is_asked_may_look_like_a_tag(chat):
    prompt = Prompt(chat[0], chat=True)
    pieces = prompt.around("<Image></Image>", ["image"], [{"instruction": "<Image></Image>", "response": "<Image>"}])
    assert len(pieces) == 2 and pieces[0].endswith("<Image>") and pieces[1].startswith("</Image>Question: <Image></Im")


def test_answers_end_at_the_end_of_a_turn(chat, llm, tmp_path, small_config):
    tokenizer, end = chat
    llm.model.save_pretrained(tmp_path / "llm")
    tokenizer.save_pretrained(tmp_path / "llm")
    config = small_config.model_copy(update={"llm": LLMConfig(name=str(tmp_path / "llm"), chat=True)})
    model = XLLM(config, ["llm"]).eval()
    assert model.llm.end_ids >= {end, tokenizer.eos_token_id}
    batch = model.prompt.build(model.llm, ["他"], [{}])
    with torch.no_grad():
        hidden, _ = model.llm(batch.embeds, batch.mask)
        model.llm.model.get_output_embeddings().weight[end] = 100 * hidden[0, -1]
    assert generate(model.llm, batch.embeds, batch.mask, [5])[0].ids == []


def test_a_tokenizer_without_a_template_is_one_line(small_tokenizer):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(small_tokenizer)
    with pytest.raises(ConfigError, match="no chat template"):
        Prompt(tokenizer, chat=True)
