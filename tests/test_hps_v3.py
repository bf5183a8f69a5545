"""HPSv3 on a tiny random Qwen2-VL, under the names that the released file has."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_vlms import make_llava, qwen2_config, qwen_processor
from transformers import Qwen2VLModel
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

import rewards
from rewards.hps_v3_model import renamed
from rewards.hps_v3_prompt import INSTRUCTION, asked
from rewards.smart_resize import Refused, SmartResize

SIZES = [(512, 512), (1216, 832), (640, 1536), (100, 80), (5, 7), (448, 448), (447, 449), (3000, 16), (448, 476)]
WIDTHS = (32, 1024, 16, 2)


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A picture of noise."""
    shape = (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@pytest.fixture(scope="session")
def tiny_hps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """`weights` and `base`: a file with the released names, and a folder of config and processor."""
    folder = tmp_path_factory.mktemp("hpsv3")
    processor = qwen_processor()
    tokens = len(processor.tokenizer) + 1  # one row more, for the mark
    config = qwen2_config(processor, tokens)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        backbone = Qwen2VLModel(config)
        head = [torch.randn(*shape) / shape[-1] ** 0.5 for shape in zip(WIDTHS[1:], WIDTHS, strict=False)]
        biases = [torch.randn(width) / 10 for width in WIDTHS[1:]]
    state = {}
    for name, value in backbone.state_dict().items():
        loud = value * 6 if value.dim() > 1 else value
        old = name if name.startswith("visual.") else f"model.{name.removeprefix('language_model.')}"
        state[old] = loud.contiguous()
    for number, weight, bias in zip((0, 3, 5), head, biases, strict=True):
        state |= {f"rm_head.{number}.weight": weight, f"rm_head.{number}.bias": bias}
    state["lm_head.weight"] = torch.zeros(tokens, WIDTHS[0])
    save_file(state, folder / "HPSv3.safetensors")
    qwen2_config(processor, 99).save_pretrained(folder)  # the base's own number of tokens is another
    processor.save_pretrained(folder)
    return {"weights": str(folder / "HPSv3.safetensors"), "base": str(folder)}


def naive(paths: dict[str, str], image: Image.Image, prompt: str, positions: str) -> list[float]:
    """μ and log σ of one row alone, each step written out."""
    state = load_file(paths["weights"])
    processor = qwen_processor()
    processor.tokenizer.add_special_tokens({"additional_special_tokens": ["<|Reward|>"]})
    config = qwen2_config(processor, len(processor.tokenizer))
    backbone = Qwen2VLModel(config).eval()
    new = {k if k.startswith("visual.") else f"language_model.{k[6:]}": v for k, v in state.items() if "head" not in k}
    backbone.load_state_dict(new)
    height, width = smart_resize(image.height, image.width, 28, 200704, 200704)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    text = f"<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{asked(prompt)}<|im_end|>\n"
    text += "<|im_start|>assistant\n"
    processor.image_processor.size = {"shortest_edge": 3136, "longest_edge": 12845056}  # the published processor's
    inputs = processor(text=[text], images=[resized], return_tensors="pt")
    with torch.no_grad():
        if positions == "sequential":  # the authors' way: embeddings with the image's in their places, and no grid
            words = backbone.language_model.embed_tokens(inputs["input_ids"])
            seen = backbone.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output[0]
            here = (inputs["input_ids"] == config.image_token_id).unsqueeze(-1)
            hidden = backbone.language_model(inputs_embeds=words.masked_scatter(here, seen)).last_hidden_state[0]
        else:
            hidden = backbone(**inputs).last_hidden_state[0]
    (at,) = (inputs["input_ids"][0] == len(processor.tokenizer) - 1).nonzero().flatten().tolist()
    value = hidden[at]
    for number in (0, 3, 5):
        value = state[f"rm_head.{number}.weight"] @ value + state[f"rm_head.{number}.bias"]
        value = value.clamp(min=0) if number < 5 else value
    return value.tolist()


def test_the_instruction_is_the_authors_byte_for_byte() -> None:
    """Hash of their own string, taken from a copy of `data_collator_qwen.py` and not from ours."""
    digest = "0393599dad45a971903d1d62a3acf9bad3ccccdafa7f40f680523419e1f68b7a"
    assert hashlib.sha256(INSTRUCTION.encode()).hexdigest() == digest
    text = asked('a "{text_prompt}" {x}')
    assert '\nTextual prompt - a "{text_prompt}" {x}\n\n\n\nPlease provide' in text
    assert text.endswith("this image: <|Reward|>\n\nEND\n")


@pytest.mark.parametrize("size", SIZES)
def test_the_resize_is_qwens(size: tuple[int, int]) -> None:
    view = SmartResize()
    assert view.size(*size) == smart_resize(size[1], size[0], 28, 256 * 28 * 28, 256 * 28 * 28)[::-1]
    image = view(noise(size))
    assert isinstance(image, Image.Image)
    assert not np.array(image.size).__mod__(28).any()


@pytest.mark.parametrize("positions", ["sequential", "mrope"])
def test_the_head_reads_the_reward_token_whatever_the_batch(tiny_hps: dict[str, str], positions: str) -> None:
    images = [noise((60, 60)), noise((90, 40), 1), noise((40, 80), 2)]
    prompts = ["a cat", "a much longer prompt " * 4, 'a {"text_prompt"} of {text_prompt}']
    expected = np.array([naive(tiny_hps, *row, positions) for row in zip(images, prompts, strict=True)])
    assert np.ptp(expected, axis=0).min() > 0.01, "the tiny model answers everything alike"
    for batch_size in (1, 3) if positions == "sequential" else (3,):
        reward = rewards.load("hpsv3", **tiny_hps, dtype="float32", batch_size=batch_size, positions=positions)
        scores = reward.score(images, prompts)
        assert scores.errors == [None] * 3
        np.testing.assert_allclose(scores.values, expected[:, 0], atol=1e-5)
        np.testing.assert_allclose(scores.parts["sigma"], np.exp(expected[:, 1]), atol=1e-5)


def test_a_bfloat16_backbone_has_a_float32_head(tiny_hps: dict[str, str]) -> None:
    reward, image = rewards.load("hpsv3", **tiny_hps), noise((60, 60))
    value = reward.score([image], ["a cat"]).values[0]
    exact = naive(tiny_hps, image, "a cat", "sequential")[0]
    assert 0 < abs(value - exact) < 0.1
    assert value != torch.tensor(value).bfloat16().float().item(), "the last product was rounded"


def test_positions_matter(tiny_hps: dict[str, str]) -> None:
    image = noise((60, 60))
    one, other = (naive(tiny_hps, image, "a cat", positions)[0] for positions in ("sequential", "mrope"))
    assert abs(one - other) > 1e-3


def test_rows_that_cannot_be_scored_say_why(tiny_hps: dict[str, str]) -> None:
    reward = rewards.load("hpsv3", **tiny_hps, dtype="float32")
    image = noise((60, 60))
    candidates = [image, image, image, rewards.Response("two", image), noise((2010, 10))]
    prompts = ["a cat", "", "a <|Reward|> cat", "how many?", "a cat"]
    scores = reward.score(candidates, prompts)
    assert np.isnan(scores.values).tolist() == [False, True, True, True, True]
    said = [error or "" for error in scores.errors]
    assert "empty" in said[1]
    assert "'<|Reward|>', a mark of this model's own" in said[2]
    assert "rewards that take answers: clip, " in said[3]
    assert "more than 200 times as long as wide" in said[4]
    assert scores.values[0] == pytest.approx(naive(tiny_hps, image, "a cat", "sequential")[0], abs=1e-5)
    assert np.isnan(reward.score(candidates[1:2], prompts[1:2]).values).all()


def test_names_of_new_transformers_are_read_too() -> None:
    one = torch.zeros(1)
    old = {"visual.a": one, "model.embed_tokens.weight": one, "rm_head.0.bias": one, "lm_head.weight": one}
    new = {"model.visual.a": one, "model.language_model.embed_tokens.weight": one, "rm_head.0.bias": one}
    assert renamed(old, Path("x")).keys() == renamed(new, Path("x")).keys()


def test_other_weights_are_refused(tiny_hps: dict[str, str], tmp_path: Path) -> None:
    state = load_file(tiny_hps["weights"])
    changes = {
        "unknown tensor extra.weight": {**state, "extra.weight": torch.zeros(1)},
        r"not those of this model: missing head.5.bias; give HPSv3's file": {
            k: v for k, v in state.items() if k != "rm_head.5.bias"
        },
        r"head.5.weight is \[3, 16\] and should be \[2, 16\]": {**state, "rm_head.5.weight": torch.zeros(3, 16)},
        "beyond the 263 tokens": {**state, "model.embed_tokens.weight": state["model.embed_tokens.weight"][:-1]},
        "no embeddings": {"rm_head.0.bias": torch.zeros(1)},
    }
    for message, tensors in changes.items():
        save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / "w.safetensors")
        with pytest.raises(ValueError, match=message):
            rewards.load("hpsv3", weights=str(tmp_path / "w.safetensors"), base=tiny_hps["base"])
    with pytest.raises(ValueError, match=r"base .*: a llava, HPSv3 is a qwen2_vl"):
        rewards.load("hpsv3", weights=tiny_hps["weights"], base=str(make_llava(tmp_path / "llava")))
    with pytest.raises(ValueError, match="name HPSv3's file in it"):
        rewards.load("hpsv3", weights=tiny_hps["base"], base=tiny_hps["base"])
    with pytest.raises(ValueError, match="positions: expected one of sequential, mrope"):
        rewards.load("hpsv3", **tiny_hps, positions="3d")


def test_a_refused_image_and_an_identity(tiny_hps: dict[str, str]) -> None:
    assert isinstance(SmartResize()(noise((2010, 10))), Refused)
    one, other = (rewards.load("hpsv3", **tiny_hps, positions=p).identity for p in ("sequential", "mrope"))
    assert one["weights"].startswith("sha256:")
    assert {key for key in one if one[key] != other[key]} == {"positions"}
