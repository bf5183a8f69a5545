"""Code that asks a run's vision-language model one question: which base, which weights."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.report_places import BUILT_IN
from pipelines.report_run import VlmRun

QUESTION = "What is in the picture?"


def vlm_usage(run: VlmRun, *, weights: str, base: str | None = None) -> str:
    """Python that loads the weights with peft and transformers and prints an answer about image.png.

    Args:
        weights: where the adapter or the model is: a folder, or a name on the hub.
        base: what to load as the base, in place of the recipe's path; for a card that must not show local paths.
    """
    model = run.recipe.model
    lora = model.lora is not None
    built_in = model.path.startswith(BUILT_IN) and not Path(model.path).exists()
    place = json.dumps(base or model.path, ensure_ascii=False)
    if built_in:
        place = f"checkpoint_path({json.dumps(model.path.removeprefix(BUILT_IN))})"
    revision = f", revision={json.dumps(model.revision)}" if model.revision and base is None and not built_in else ""
    own = json.dumps(weights, ensure_ascii=False)
    lines = ["import torch"]
    lines += ["from mmpo.shapes.checkpoints import checkpoint_path"] if lora and built_in else []
    lines += ["from peft import PeftModel"] if lora else []
    lines += ["from PIL import Image", "from transformers import AutoModelForImageTextToText, AutoProcessor", ""]
    lines += [f"processor = AutoProcessor.from_pretrained({own})"]
    load = 'AutoModelForImageTextToText.from_pretrained({}, dtype="auto")'
    if lora:
        lines += [f"base = {load.format(place + revision)}", f"model = PeftModel.from_pretrained(base, {own}).eval()"]
    else:
        lines += [f"model = {load.format(own)}.eval()"]
    lines += [
        'model.to("cuda" if torch.cuda.is_available() else "cpu")',
        f'content = [{{"type": "image", "image": Image.open("image.png")}}, {{"type": "text", "text": "{QUESTION}"}}]',
        "inputs = processor.apply_chat_template(",
        '    [{"role": "user", "content": content}],',
        '    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",',
        ").to(model.device, model.dtype)",
        "said = model.generate(**inputs, max_new_tokens=128, do_sample=False)",
        'print(processor.decode(said[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
    ]
    return "\n".join(lines) + "\n"
