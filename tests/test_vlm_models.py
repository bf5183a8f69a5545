"""Loading VLMs, what LoRA touches in them, and what comes out: peft's and transformers' own loaders read it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from vlm_rows import batch_of, folder_of, vlm_of

from mmpo.adapters.autoregressive import Autoregressive, Tricks
from mmpo.adapters.naive_tokens import naive_logps
from mmpo.models.quiet import quiet_transformers
from mmpo.models.vlm import load_vlm
from mmpo.models.vlm_lora import add_vlm_lora, lora_layers
from mmpo.models.vlm_parts import check_trained, train_only, trained_parts, vision_is_frozen, vlm_parts
from mmpo.models.vlm_saving import merge_vlm, save_vlm

PARTS = {
    "llava": ("model.vision_tower", ["model.multi_modal_projector"], "model.language_model"),
    "llava_next": (
        "model.vision_tower",
        ["model.multi_modal_projector", "model.image_newline"],
        "model.language_model",
    ),
    "qwen2": ("model.visual", ["model.visual.merger"], "model.language_model"),
    "qwen2.5": ("model.visual", ["model.visual.merger"], "model.language_model"),
    "qwen3": ("model.visual", ["model.visual.merger", "model.visual.deepstack_merger_list"], "model.language_model"),
    "idefics3": ("model.vision_model", ["model.connector"], "model.text_model"),
}


@pytest.mark.parametrize("family", PARTS)
def test_parts_are_found_and_hold_every_weight(family: str) -> None:
    model = vlm_of(family, torch.float32).model
    parts = vlm_parts(model)
    vision, projector, language = PARTS[family]
    assert (parts.vision, parts.language, parts.head) == ((vision,), (language,), "lm_head")
    assert sorted(parts.projector) == sorted(projector)
    model.requires_grad_(True)
    counts = trained_parts(model)
    assert sum(counts.values()) == sum(p.numel() for p in model.parameters())
    assert set(counts) == {"vision", "projector", "language", "head"}


@pytest.mark.parametrize("family", PARTS)
def test_lora_is_on_every_linear_layer_of_the_language_model_and_nowhere_else(family: str) -> None:
    """Two layers of seven linear ones: q, k, v, o, gate, up, down."""
    model = vlm_of(family, torch.bfloat16).model
    counts = add_vlm_lora(model, rank=2, seed=0)
    adapted = [name for name, _ in model.named_modules() if name.endswith(".lora_A")]
    assert len(adapted) == 14
    assert all(name.startswith(PARTS[family][2] + ".") for name in adapted)
    assert set(counts) == {"language"}
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == counts["language"]
    assert {p.dtype for p in trained} == {torch.float32}
    assert vision_is_frozen(model)


@pytest.mark.parametrize("family", PARTS)
def test_the_projector_is_adapted_by_choice(family: str) -> None:
    model = vlm_of(family, torch.float32).model
    counts = add_vlm_lora(model, rank=2, targets="language_projector", seed=0)
    assert set(counts) == {"language", "projector"}
    assert not vision_is_frozen(model)
    model.requires_grad_(False)
    assert not vision_is_frozen(model)  # a frozen adapter is still part of what an image becomes


def test_listed_targets_leave_the_tower_alone_unless_it_is_named() -> None:
    """CLIP's q_proj has the name of Llama's."""
    model = vlm_of("llava", torch.float32).model
    layers = lora_layers(model, ["q_proj", "v_proj"])
    assert len(layers) == 4
    assert all(".language_model." in name for name in layers)
    first = lora_layers(model, ["model.language_model.layers.0"])
    assert len(first) == 7
    tower = lora_layers(model, ["model.vision_tower"])
    assert tower
    assert all(name.startswith("model.vision_tower.") for name in tower)
    add_vlm_lora(model, rank=2, targets=["model.language_model.layers.0", "up_proj"], seed=0)
    assert sum(name.endswith(".lora_A") for name, _ in model.named_modules()) == 8


@pytest.mark.parametrize(
    ("targets", "words"), [(["q_prj"], "q_proj"), (["lm_head"], "never adapted"), (["patch_embedding"], "tower")]
)
def test_targets_that_match_nothing_or_the_head_are_refused(targets: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        add_vlm_lora(vlm_of("llava", torch.float32).model, rank=2, targets=targets, seed=0)


def test_a_new_lora_adds_nothing_and_its_seed_decides_it() -> None:
    vlm, other = vlm_of("qwen3"), vlm_of("qwen3")
    batch = batch_of(vlm)
    before = naive_logps(vlm.model, batch)["chosen"].logps
    add_vlm_lora(vlm.model, rank=2, seed=7)
    assert naive_logps(vlm.model, batch)["chosen"].logps.equal(before)
    add_vlm_lora(other.model, rank=2, seed=7)
    own = {name: p for name, p in vlm.model.named_parameters() if p.requires_grad}
    assert all(p.equal(own[name]) for name, p in other.model.named_parameters() if p.requires_grad)


def test_what_is_trained_is_asserted() -> None:
    model = vlm_of("qwen2.5", torch.float32).model
    train_only(model, ("language",))
    assert set(check_trained(model, ("language", "head"), adapters_only=False)) == {"language"}
    with pytest.raises(ValueError, match="beside the LoRA"):
        check_trained(model, ("language",), adapters_only=True)
    with pytest.raises(ValueError, match="in the language"):
        check_trained(model, ("projector",), adapters_only=False)
    with pytest.raises(ValueError, match="nothing is trained"):
        check_trained(model.requires_grad_(False), ("language",), adapters_only=False)
    model.new = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match="new is trained"):
        trained_parts(model)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks by it
@pytest.mark.parametrize("family", ["llava", "qwen2.5", "qwen3"])
def test_an_adapter_loads_with_peft_and_merges_to_a_folder_of_transformers(family: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText, AutoProcessor

    vlm = load_vlm(str(folder_of(family)), dtype=torch.float64)
    batch = batch_of(vlm)
    base = naive_logps(vlm.model, batch)["chosen"].logps
    add_vlm_lora(vlm.model, rank=2, alpha=4, targets="language_projector", seed=0)
    for name, parameter in vlm.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=1e-3, generator=torch.Generator().manual_seed(len(name)))
    tuned = naive_logps(vlm.model, batch)["chosen"].logps
    assert (tuned - base).abs().max() > 1e-6
    save_vlm(tmp_path / "adapter", vlm, {"recipe": "made"})
    with quiet_transformers():
        fresh = AutoModelForImageTextToText.from_pretrained(folder_of(family), dtype=torch.float64)
        loaded = PeftModel.from_pretrained(fresh, str(tmp_path / "adapter")).eval()
        assert (naive_logps(loaded, batch)["chosen"].logps - tuned).abs().max() < 1e-9
        wrapped = Autoregressive(Tricks(share_prompt=False)).logps(loaded, batch)
        assert (wrapped["chosen"].logps - tuned).abs().max() < 1e-9
        merge_vlm(tmp_path / "adapter", tmp_path / "merged", dtype=torch.float64)
        merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged", dtype=torch.float64)
    assert not list((tmp_path / "merged").glob("adapter*"))
    assert (naive_logps(merged, batch)["chosen"].logps - tuned).abs().max() < 1e-7
    for folder in ("adapter", "merged"):
        processor = AutoProcessor.from_pretrained(tmp_path / folder)
        assert processor.chat_template == vlm.processor.chat_template


def test_a_full_fine_tune_is_saved_whole(tmp_path: Path) -> None:
    from mmpo.adapters import branch_attention

    vlm = vlm_of("llava", torch.float32)
    branch_attention.install(vlm.model)
    with quiet_transformers():
        save_vlm(tmp_path / "model", vlm, {})
        again = load_vlm(str(tmp_path / "model"), dtype=torch.float32)
    assert again.model.config.text_config._attn_implementation == "sdpa"
    own = dict(vlm.model.named_parameters())
    assert all(p.equal(own[name]) for name, p in again.model.named_parameters())
    assert branch_attention.NAME not in (tmp_path / "model" / "config.json").read_text()


def test_what_cannot_be_loaded_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        load_vlm(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no vision-language model"):
        load_vlm(str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="expected nf4"):
        load_vlm(str(folder_of("llava")), quantize="int8")
    monkeypatch.setattr("importlib.import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(ValueError, match="bitsandbytes"):
        load_vlm(str(folder_of("llava")), quantize="nf4")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="holds no adapter_model"):
        merge_vlm(tmp_path / "empty", tmp_path / "out")


def test_missing_weights_are_not_filled_with_random_numbers(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folder_of("llava"), tmp_path / "llava")
    state = load_file(folder / "model.safetensors")
    dropped = next(name for name in state if "q_proj" in name)
    save_file({name: x for name, x in state.items() if name != dropped}, folder / "model.safetensors", {"format": "pt"})
    with quiet_transformers(), pytest.raises(ValueError, match="1 weights are missing"):
        load_vlm(str(folder), dtype=torch.float32)
