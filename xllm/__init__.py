"""xllm: images, video and speech as foreign languages that a large language model reads (X-LLM)."""

__version__ = "0.1.0"
PACKAGED = "tiny"  # the system inside the package: what every command takes unless --model says otherwise
