"""The tiny CLIP as an ordinary folder: what `CLIPModel` and `CLIPProcessor` load, with nothing to resize."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import CLIPImageProcessor, CLIPModel

from mmpo.shapes.canvas import SIZE
from mmpo.shapes.checkpoints import checkpoint_path


def save(model: CLIPModel, folder: Path) -> None:
    """Write config, weights, the tokenizer files of `sd` and the image processor's config (32x32, to [-1, 1])."""
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for part in (config, config["text_config"], config["vision_config"]):
        part.pop("_name_or_path", None)  # a path of this machine
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for file in sorted((checkpoint_path("sd") / "tokenizer").iterdir()):
        (folder / file.name).write_bytes(file.read_bytes())
    CLIPImageProcessor(
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    ).save_pretrained(folder)
