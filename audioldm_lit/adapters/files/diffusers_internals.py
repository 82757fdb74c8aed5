"""The one door to what diffusers has and does not document; `tests/test_internals.py` tries it.

How a LoRA lies on disk has no documented names, and what is written here must be what its own `save_lora_adapter` writes.
"""

from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY, LORA_WEIGHT_NAME_SAFE

LORA_FILE = LORA_WEIGHT_NAME_SAFE
LORA_METADATA_KEY = LORA_ADAPTER_METADATA_KEY  # in the file's metadata, the configuration
