"""Models of transformers with random weights, as small as they go, saved as folders that load by their own means."""

from pathlib import Path

import torch

CHARACTERS = "天地人你我他是一个大小abcdefg。？！.,"


def small_mbart(folder: Path, positions: int = 24, width: int = 16) -> Path:
    """An mBART-50 that knows two dozen characters; it ends its sentences."""
    from transformers import MBart50Tokenizer, MBartConfig, MBartForConditionalGeneration

    vocabulary = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁", -2.0), *((c, -3.0) for c in CHARACTERS)]
    tokenizer = MBart50Tokenizer(vocab=vocabulary)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    config = MBartConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=positions,
        d_model=width,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=width,
        decoder_ffn_dim=width,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        init_std=0.6,
        decoder_start_token_id=tokenizer.eos_token_id,
    )
    model = MBartForConditionalGeneration(config)
    model.final_logits_bias[0, tokenizer.eos_token_id] = 4
    model.final_logits_bias[0, tokenizer.convert_tokens_to_ids(list(CHARACTERS))] = 2
    model.save_pretrained(folder)
    return folder


def small_clip(folder: Path, chinese: bool = True, width: int = 16, layers: int = 1, size: int = 16) -> Path:
    """Chinese-CLIP, which reads characters, or CLIP, which reads letters."""
    from transformers import (
        BertTokenizerFast,
        ChineseCLIPConfig,
        ChineseCLIPModel,
        ChineseCLIPProcessor,
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPProcessor,
        CLIPTokenizer,
    )

    torch.manual_seed(1)
    folder.mkdir(parents=True, exist_ok=True)
    shape = {"hidden_size": width, "intermediate_size": width, "num_hidden_layers": layers, "num_attention_heads": 2}
    vision = shape | {"image_size": size, "patch_size": 8}
    pictures = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    if chinese:
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(CHARACTERS)]
        (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
        tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"))
        text = shape | {"vocab_size": len(words), "max_position_embeddings": 32}
        config = ChineseCLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
        model, processor = ChineseCLIPModel(config), ChineseCLIPProcessor(CLIPImageProcessor(**pictures), tokenizer)
    else:
        words = ["<|startoftext|>", "<|endoftext|>", *"abcdefg", *(f"{c}</w>" for c in "abcdefg")]
        tokenizer = CLIPTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[])
        tokenizer.model_max_length = 16
        text = shape | {
            "vocab_size": len(words),
            "max_position_embeddings": 16,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
        }
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
        model, processor = CLIPModel(config), CLIPProcessor(CLIPImageProcessor(**pictures), tokenizer)
    with torch.no_grad():  # random projections all point one way
        for parameter in model.parameters():
            parameter.mul_(8)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def small_bert(folder: Path, width: int = 16, positions: int = 12) -> Path:
    """A BERT of two dozen characters."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(1)
    folder.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(CHARACTERS)]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    shape = {"hidden_size": width, "intermediate_size": width, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=positions, **shape))
    with torch.no_grad():  # random states are all alike
        for parameter in model.parameters():
            parameter.mul_(8)
    model.save_pretrained(folder)
    return folder


def small_qwen2(folder: Path, width: int = 16) -> Path:
    """A Qwen2 as published: bytes that merge into characters and words, a chat template, tied embeddings."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(1)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = [byte_level.pre_tokenize_str(word)[0][0] for word in (*"天地人你我他", "天地")]
    merges = [pair for first, second, third in words[:-1] for pair in ((first, second), (first + second, third))]
    merges.append((words[0], words[1]))
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *dict.fromkeys(a + b for a, b in merges)]
    tokenizer = Tokenizer(
        models.BPE({piece: number for number, piece in enumerate(pieces)}, list(dict.fromkeys(merges)))
    )
    tokenizer.pre_tokenizer, tokenizer.decoder = byte_level, decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(t, special=True) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    fast.save_pretrained(folder)
    shape = {"hidden_size": width, "intermediate_size": width, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    Qwen2ForCausalLM(
        Qwen2Config(vocab_size=len(fast), max_position_embeddings=512, tie_word_embeddings=True, **shape, **heads)
    ).save_pretrained(folder)
    return folder


def small_vit(folder: Path, width: int = 16) -> Path:
    """CLIP's vision transformer as timm saves it, 224 pixels wide in 49 patches."""
    import timm
    from timm.models import save_for_hf

    torch.manual_seed(1)
    sizes = {"embed_dim": width, "depth": 1, "num_heads": 2}
    model = timm.create_model("vit_base_patch32_clip_224", num_classes=0, **sizes)
    save_for_hf(model, folder, {"num_classes": 0}, model_args=sizes, safe_serialization=True)
    return folder


def small_vits(folder: Path, speakers: int = 4) -> Path:
    """A VITS that speaks at 8 kHz, noise for the most part."""
    from transformers import VitsConfig, VitsModel, VitsTokenizer

    torch.manual_seed(1)
    folder.mkdir(parents=True, exist_ok=True)
    import json

    words = ["_", "<unk>", *dict.fromkeys(CHARACTERS)]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    VitsTokenizer(
        str(folder / "vocab.json"), pad_token="_", unk_token="<unk>", phonemize=False, normalize=False
    ).save_pretrained(folder)
    config = VitsConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=16,
        flow_size=16,
        spectrogram_bins=9,
        prior_encoder_num_flows=1,
        prior_encoder_num_wavenet_layers=1,
        posterior_encoder_num_wavenet_layers=1,
        duration_predictor_num_flows=1,
        duration_predictor_filter_channels=16,
        depth_separable_num_layers=1,
        upsample_initial_channel=32,
        upsample_rates=[8, 4],
        upsample_kernel_sizes=[16, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1]],
        num_speakers=speakers,
        speaker_embedding_size=8,
        sampling_rate=8000,
    )
    VitsModel(config).save_pretrained(folder)
    return folder


def with_code(folder: Path, marker: Path) -> Path:
    """A model of no known kind, whose files name Python code beside them; when it runs, it writes `marker`."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    kinds = (
        "Config",
        "Model",
        "ModelForCausalLM",
        "ModelForTextToWaveform",
        "Tokenizer",
        "Processor",
        "ImageProcessor",
    )
    code = {f"Auto{kind}": f"code.{kind}" for kind in kinds}
    words = {"auto_map": code | {"AutoTokenizer": ["code.Tokenizer", None]}, "tokenizer_class": "OfCode"}
    words |= {"processor_class": "OfCode", "image_processor_type": "OfCode"}
    for name in ("config", "tokenizer_config", "processor_config", "preprocessor_config"):
        (folder / f"{name}.json").write_text(json.dumps({"model_type": "of_code", **words}))
    lines = [f"open({str(marker)!r}, 'w').close()", *(f"class {kind}: pass" for kind in kinds)]
    (folder / "code.py").write_text("\n".join(lines) + "\n")
    return folder


def timm_folder(name: str, folder: Path):
    """A timm model of random weights, batch norm's statistics too, with the classifier, as timm saves it."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(1)
    model = timm.create_model(name).eval()
    for key, value in model.state_dict().items():
        if key.endswith(("running_mean", "running_var")):
            value.copy_(torch.rand_like(value) + 0.5)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    return model
