"""ImageReward on tiny random weights under the released names, through the loading that published ones take."""

from __future__ import annotations

import shutil
from pathlib import Path

import naive_blip
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

import rewards
from rewards.blip_reward_model import BlipReward, BlipSizes
from rewards.blip_weights import blip_reward, converted
from rewards.image_rows import score_rows

PROMPTS = ["a cat", "the dogs on a blue mat", "a red cat, the blue dog", "a cat", "zebra", "a"]
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A picture of noise, in which a shift by one pixel shows."""
    shape = (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


IMAGES = [noise((64 + 7 * seed, 70 - 5 * seed), seed) for seed in range(len(PROMPTS))]  # the first leaves 3 pixels over


def save(folder: Path, state: dict[str, torch.Tensor]) -> Path:
    """The released layout: ImageReward.pt, and BERT's vocabulary beside it."""
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / "ImageReward.pt")
    (folder / "vocab.txt").write_text("\n".join(naive_blip.WORDS) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ImageReward."""
    return save(tmp_path_factory.mktemp("imagereward"), naive_blip.released_state())


def ids_of(prompt: str) -> list[int]:
    """Token ids of a prompt of whole words, commas and a plural s."""
    words = prompt.replace(",", " ,").replace("dogs", "dog ##s").split()
    known = {word: number for number, word in enumerate(naive_blip.WORDS)}
    return [2, *(known.get(word, 1) for word in words), 3]


def naive(state: dict[str, torch.Tensor], image: Image.Image, prompt: str) -> float:
    """The reward by torchvision's pixels and the formula in float64."""
    bicubic = transforms.InterpolationMode.BICUBIC
    steps = [
        transforms.Resize(32, bicubic),
        transforms.CenterCrop(32),
        transforms.ToTensor(),
        transforms.Normalize(*CLIP),
    ]
    return naive_blip.score(state, transforms.Compose(steps)(image), ids_of(prompt))


@pytest.mark.parametrize("small", [1.0, 1e-3])
def test_scores_are_the_formulas(tmp_path: Path, small: float) -> None:
    """Where the embeddings are small the norm's epsilon decides: transformers' default is ten times the right one."""
    state = naive_blip.released_state(small=small)
    expected = [naive(state, image, prompt) for image, prompt in zip(IMAGES, PROMPTS, strict=True)]
    assert np.ptp(expected) > 0.1
    assert abs(expected[0] - naive(state, IMAGES[1], PROMPTS[0])) > 1e-3, "an image must matter"
    scores = rewards.load("imagereward", weights=str(save(tmp_path / "w", state))).score(IMAGES, PROMPTS)
    np.testing.assert_allclose(scores.values, expected, atol=1e-5)
    assert scores.errors == [None] * len(PROMPTS)


def test_scores_do_not_depend_on_batch_order_or_padding(folder: Path) -> None:
    whole = rewards.load("imagereward", weights=str(folder), batch_size=6).score(IMAGES, PROMPTS).values
    for batch_size in (1, 4):
        reward = rewards.load("imagereward", weights=str(folder), batch_size=batch_size)
        np.testing.assert_allclose(reward.score(IMAGES, PROMPTS).values, whole, atol=1e-5)
        np.testing.assert_allclose(reward.score(IMAGES[::-1], PROMPTS[::-1]).values[::-1], whole, atol=1e-5)
    one = reward.model.forward
    tokens = reward.model.images(torch.rand(1, 3, 32, 32))
    ids, mask, _ = reward._prompts(["a cat"])
    padded = torch.nn.functional.pad(ids, (0, 35 - ids.shape[1])), torch.nn.functional.pad(mask, (0, 35 - ids.shape[1]))
    assert abs(one(tokens, ids, mask) - one(tokens, *padded)) < 1e-6
    assert abs(one(tokens, ids, mask) - one(tokens, padded[0], torch.ones_like(padded[1]))) > 1e-3


def test_an_image_of_several_rows_is_encoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = rewards.load("imagereward", weights=str(folder))
    seen = []
    encode = reward.model.images
    monkeypatch.setattr(reward.model, "images", lambda pixels: (seen.append(len(pixels)), encode(pixels))[1])
    view, other = reward.view(IMAGES[0]), reward.view(IMAGES[1])
    scores = reward.score_views([view, other, view], ["a cat", "a dog", "the mat"], [None] * 3)
    assert seen == [2]
    alone = [reward.score_views([view], [prompt], [None]).values[0] for prompt in ("a cat", "the mat")]
    np.testing.assert_allclose(scores.values[[0, 2]], alone, atol=1e-5)


def test_every_key_is_used_and_strange_ones_are_named() -> None:
    state = naive_blip.released_state()
    model = blip_reward(state, "x.pt")
    unused = ("blip.vision_proj.", "blip.text_proj.", "blip.text_encoder.embeddings.position_ids")
    assert len(model.state_dict()) == len(state) - 5 == len([key for key in state if not key.startswith(unused)])
    for key, tensor in converted(state).items():
        assert torch.equal(model.state_dict()[key], tensor), key
    assert not [
        key
        for key, tensor in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items()
        if tensor.is_meta
    ]
    assert {module.eps for module in model.vision.modules() if isinstance(module, torch.nn.LayerNorm)} == {1e-6}
    assert {module.eps for module in model.text.modules() if isinstance(module, torch.nn.LayerNorm)} == {1e-12}
    gone = "blip.text_encoder.encoder.layer.1.crossattention.self.query.bias"
    with pytest.raises(
        ValueError, match=r"weights x.pt: .*missing text.encoder.layer.1.crossattention.self.query.bias"
    ):
        blip_reward({key: tensor for key, tensor in state.items() if key != gone}, "x.pt")
    with pytest.raises(ValueError, match=r"weights x.pt: .*unexpected blip.text_decoder.bias"):
        blip_reward({**state, "blip.text_decoder.bias": torch.zeros(1)}, "x.pt")
    with pytest.raises(
        ValueError, match=r"weights x.pt: missing blip.visual_encoder.pos_embed; is it the file of anoth"
    ):
        blip_reward({"logit_scale": torch.zeros(())}, "x.pt")
    with pytest.raises(ValueError, match=r"x.pt: .*vision.post_layernorm.weight is \[\d+\] and should be"):
        blip_reward({**state, "blip.visual_encoder.norm.weight": torch.zeros(3)}, "x.pt")


def test_a_low_precision_encoder_keeps_the_head_in_float32(folder: Path) -> None:
    """The naive head, one affine map, on the bfloat16 encoder's own features gives the score itself."""
    reward = rewards.load("imagereward", weights=str(folder), dtype="bfloat16")
    features = []
    reward.model.text.register_forward_hook(lambda *call: features.append(call[2].last_hidden_state[0, 0]))
    value = reward.score(IMAGES[:1], PROMPTS[:1]).values[0]
    assert features[0].dtype == torch.bfloat16
    row = naive_blip.affine(naive_blip.released_state())
    expected = (float(row[:-1] @ features[0].double() + row[-1]) - 0.16717362830052426) / 1.0333394966054072
    assert value == pytest.approx(expected, abs=1e-5)
    assert value == pytest.approx(naive(naive_blip.released_state(), IMAGES[0], PROMPTS[0]), abs=0.05)


def test_rows_that_cannot_be_scored_and_prompts_that_are_cut(folder: Path) -> None:
    reward = rewards.load("imagereward", weights=str(folder))
    long = "a cat, " * 20
    rows = [IMAGES[0], rewards.Response("a cat", IMAGES[0]), IMAGES[0], IMAGES[0]]
    scores = reward.score(rows, ["a cat", "what is it?", "  ", long])
    assert np.isnan(scores.values).tolist() == [False, True, True, False]
    assert "imagereward scores images, not answers; rewards that take answers: " in str(scores.errors[1])
    assert "pickscore" in str(scores.errors[1])
    assert "the text is empty" in str(scores.errors[2])
    assert scores.notes == [None, None, None, "text of 62 tokens, cut to the 35 that the model reads"]
    kept = naive_blip.score(naive_blip.released_state(), pixels(reward, IMAGES[0]), [*ids_of(long)[:34], 3])
    assert scores.values[3] == pytest.approx(kept, abs=1e-5)


def test_a_score_that_is_not_finite_is_a_failed_row() -> None:
    scores = score_rows([None, "no", None], lambda rows: (np.array([np.inf, 2.0], np.float32), ["cut", "cut"]))
    assert np.isnan(scores.values).tolist() == [True, True, False]
    assert scores.errors == ["the model's score is inf; in float16 try bfloat16 or float32", "no", None]
    assert scores.notes == [None, None, "cut"]
    assert score_rows(["no"], lambda rows: pytest.fail("nothing to run")).errors == ["no"]


def pixels(reward: rewards.Reward, image: Image.Image) -> torch.Tensor:
    """What the reward's model sees of an image."""
    return transforms.Normalize(*CLIP)(reward.view(image).float() / 255)  # type: ignore[attr-defined]


def test_weights_and_vocabularies_that_are_not_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"weights .*nothing.pt: no such file; give ImageReward.pt, its folder, or OWNER/NAME/FI"
    ):
        rewards.load("imagereward", weights=str(tmp_path / "nothing.pt"))
    with pytest.raises(
        ValueError, match=r"weights THUDM/ImageReward/ImageReward.pt: no such file here, and ImageReward.pt "
    ):
        rewards.load("imagereward")
    with pytest.raises(ValueError, match=r"vocab .*nothing: no vocabulary found there"):
        rewards.load("imagereward", weights=str(folder), vocab=str(tmp_path / "nothing"))
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"vocab .*: 7 tokens with \[DEC\] and \[ENC\], the model knows 17"):
        rewards.load("imagereward", weights=str(folder), vocab=str(tmp_path))
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x.pt: expected tensors by name, found dict"):
        rewards.load("imagereward", weights=str(tmp_path / "x.pt"))


def test_the_released_size() -> None:
    """446.2 million parameters, the figure of the released network; without its two unused projections."""
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    text |= {"vocab_size": 30524, "encoder_hidden_size": 1024, "max_position_embeddings": 512}
    sizes = BlipSizes({**vision, "image_size": 224, "patch_size": 16}, text, (768, 1024, 128, 64, 16, 1))
    with torch.device("meta"):
        model = BlipReward(sizes)
    assert sum(parameter.numel() for parameter in model.parameters()) == 446_206_689


def test_identity_tells_weights_and_vocabulary_apart(folder: Path, tmp_path: Path) -> None:
    """Files by what is in them, not by where they are; device and batches do not count."""
    here = rewards.load("imagereward", weights=str(folder)).identity
    assert here["weights"].startswith("sha256:")
    shutil.copytree(folder, tmp_path / "copy")
    pinned = here["weights"].removeprefix("sha256:")
    again = rewards.load("imagereward", weights=str(tmp_path / "copy" / "ImageReward.pt"), sha256=pinned, batch_size=3)
    assert again.identity == here
    assert rewards.load("imagereward", weights=str(folder), dtype="bfloat16").identity != here
    words = naive_blip.WORDS[:-2] + naive_blip.WORDS[:-3:-1]
    (tmp_path / "copy" / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    assert rewards.load("imagereward", weights=str(tmp_path / "copy")).identity["vocab"] != here["vocab"]
    save(tmp_path / "copy", naive_blip.released_state(seed=1))
    assert rewards.load("imagereward", weights=str(tmp_path / "copy")).identity["weights"] != here["weights"]
    with pytest.raises(ValueError, match=f"sha256 is .*, pinned is {pinned}"):
        rewards.load("imagereward", weights=str(tmp_path / "copy"), sha256=pinned)
