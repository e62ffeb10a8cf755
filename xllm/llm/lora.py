"""Low-rank updates of a frozen language model (LoRA, Hu et al. 2021), by peft. Optional, and off in the paper."""

from torch import nn

from xllm.config import LoRAConfig
from xllm.errors import ConfigError


def add_lora(llm: nn.Module, config: LoRAConfig) -> nn.ModuleList:
    """Put updates, which begin without effect, into the linear layers of an LLM (`CausalLM.model`); returns them all.

    Raises ConfigError when peft is not installed or the model has no linear layers of the names in `targets`.
    """
    try:
        import peft
        from peft.tuners.lora import LoraLayer
    except ImportError:
        raise ConfigError("lora needs peft: pip install 'xllm-cli[lora]'") from None
    head = llm.get_output_embeddings()
    linear = [name for name, layer in llm.named_modules() if isinstance(layer, nn.Linear) and layer is not head]
    unknown = [name for name in config.targets if not any(f".{layer}".endswith(f".{name}") for layer in linear)]
    if unknown or not linear:
        raise ConfigError(f"lora.targets: the language model has no linear layer {', '.join(unknown)}".rstrip())
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.targets) or linear,
    )
    peft.inject_adapter_in_model(settings, llm)
    layers = [layer for layer in llm.modules() if isinstance(layer, LoraLayer)]
    updates = nn.ModuleList(part for layer in layers for part in (layer.lora_A, layer.lora_B, layer.lora_dropout))
    return updates.float()  # what trains is float32, whatever the LLM is
