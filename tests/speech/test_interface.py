"""C-Former and S-Adapter: one embedding a token, independent of the batch."""

import pytest
import torch

from xllm.config import SpeechInterfaceConfig
from xllm.dictionary import begin_with
from xllm.speech.interface import SpeechInterface

CONFIG = SpeechInterfaceConfig(bert=None, width=16, ffn=32, heads=2, layers=2, max_tokens=12)


@pytest.fixture
def interface():
    torch.manual_seed(0)
    return SpeechInterface(CONFIG, token_width=10, llm_width=24).eval()


def test_one_embedding_a_token_and_batch_equals_single(interface):
    lengths = torch.tensor([7, 1, 4, 0])
    tokens = torch.randn(4, 7, 10)
    together, out = interface(tokens, lengths)
    assert together.shape == (4, 7, 24) and out is lengths and torch.isfinite(together).all()
    for row, length in enumerate(lengths.tolist()[:3]):
        alone, _ = interface(tokens[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(together[row, :length], alone[0], atol=1e-5, rtol=1e-4)


def test_no_tokens_at_all(interface):
    assert interface(torch.zeros(2, 0, 10), torch.tensor([0, 0]))[0].shape == (2, 0, 24)


def test_more_tokens_than_positions_raise(interface):
    with pytest.raises(ValueError, match="13 speech tokens.*12"):
        interface(torch.zeros(1, 13, 10), torch.tensor([13]))


def test_pretrained_bert_of_a_folder_without_its_words(tmp_path):
    from transformers import BertConfig, BertModel

    BertModel(
        BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=12,
        )
    ).save_pretrained(tmp_path)
    interface = SpeechInterface(CONFIG.model_copy(update={"bert": str(tmp_path)}), 10, 24)
    kept = BertModel.from_pretrained(tmp_path).encoder.layer[0].intermediate.dense.weight
    assert torch.equal(interface.bert.encoder.layer[0].intermediate.dense.weight, kept)
    assert interface.bert.embeddings.word_embeddings.weight.numel() == 16


def test_it_can_begin_by_passing_on_the_embeddings_of_what_it_reads():
    torch.manual_seed(0)
    interface = SpeechInterface(CONFIG.model_copy(update={"width": 64, "ffn": 128}), 10, 64).eval()
    table = 0.05 * torch.randn(10, 64)
    tokens = torch.eye(10)[torch.tensor([[3, 1, 4, 1, 5, 9]])]

    def distance():
        passed, _ = interface(tokens, torch.tensor([6]))
        return (passed - tokens @ table).square().mean() / table.square().mean()

    assert distance() > 0.9
    begin_with(interface.enter, interface.adapter, table)
    assert distance() < 0.3
    begin_with(
        interface.enter, interface.adapter, torch.randn(10, 24)
    )  # an LLM of another width: nothing to begin with
    assert distance() < 0.3


def test_a_bert_of_other_sizes_or_none_is_told(tmp_path):
    from transformers import BertConfig, BertModel

    from xllm.errors import ConfigError

    with pytest.raises(ConfigError, match="cannot be loaded"):
        SpeechInterface(CONFIG.model_copy(update={"bert": str(tmp_path / "none")}), 10, 24)
    BertModel(BertConfig(vocab_size=9, hidden_size=16, num_hidden_layers=3, num_attention_heads=2)).save_pretrained(
        tmp_path
    )
    with pytest.raises(ConfigError, match="has width, layers and positions"):
        SpeechInterface(CONFIG.model_copy(update={"bert": str(tmp_path)}), 10, 24)


def test_a_trained_system_does_not_ask_for_bert_again(small_system, small_config, tmp_path):
    from xllm import checkpoint
    from xllm.model import XLLM

    config = small_config.model_copy(
        update={"speech": small_config.speech.model_copy(update={"bert": "nobody/has-this"})}
    )
    checkpoint.save(tmp_path / "run", "x", config, checkpoint.tensors(small_system, ("recognizer", "speech", "llm")))
    again = XLLM.from_pretrained(tmp_path / "run")
    assert torch.equal(again.speech.adapter.weight, small_system.speech.adapter.weight)
