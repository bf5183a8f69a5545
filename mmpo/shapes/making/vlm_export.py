"""The tiny VLM as an ordinary folder: what `AutoModelForImageTextToText` and `AutoProcessor` load."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import GenerationConfig, LlavaForConditionalGeneration

from mmpo.shapes.making.vlm_tokenizer import processor


def save(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Write config, weights, and the processor with its tokenizer and chat template."""
    made = processor()
    words = made.tokenizer
    model.generation_config = GenerationConfig(
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id
    )
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    for file in folder.glob("*.json"):
        if '"_name_or_path"' in file.read_text(encoding="utf-8"):
            config = json.loads(file.read_text(encoding="utf-8"))
            config.pop("_name_or_path", None)  # a path of this machine
            file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
