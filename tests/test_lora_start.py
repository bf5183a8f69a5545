"""Going on from a LoRA: every tensor arrives, its own frozen copy is the reference, the first logit is exactly 0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mmpo.adapters import FrozenAdapter
from mmpo.adapters.reference import AdaptersOff
from mmpo.models.checkpoint import read_config
from mmpo.models.loading import load_pipeline, weights_hash
from mmpo.models.lora_start import find_start, start_lora
from mmpo.models.saving import LORA_FILE, load_lora, save_lora
from mmpo.recipe import Lora
from mmpo.recipe_files import validate
from mmpo.training.metrics import read_metrics
from pipelines.evaluation import load_policy
from pipelines.train import read_summary, train


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory, sd_folder: Path, pairs_folder: Path) -> Path:
    """A finished LoRA run with convolutions: its folder."""
    folder = tmp_path_factory.mktemp("first") / "run"
    tree = tiny.recipe_tree(sd_folder, pairs_folder, folder, train__steps=3, optim__lr=1e-2)
    tree["model"]["lora"] = {"rank": 3, "alpha": 5.0, "targets": "attention_convolutions"}
    return train(validate(tree))


def second(sd_folder: Path, pairs_folder: Path, output: Path, start: Path, **changes: Any) -> dict[str, Any]:
    tree = tiny.recipe_tree(sd_folder, pairs_folder, output, **{"train__steps": 3, **changes})
    tree["model"]["lora"] = {"start": str(start), "dropout": 0.1}
    return tree


def started(sd_folder: Path, file: Path, dtype: torch.dtype = torch.float32) -> Any:
    config = read_config(str(sd_folder))
    pipeline = load_pipeline(config, dtype=dtype)
    start_lora(pipeline, pipeline.unet, Lora(start=str(file)), config.family)
    return pipeline


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_first_logit_is_exactly_zero(
    first_run: Path, sd_folder: Path, pairs_folder: Path, tmp_path: Path, precision: str
) -> None:
    """Step 0: policy and reference hold the same LoRA, so every log-ratio is 0; later the policy has moved."""
    tree = second(sd_folder, pairs_folder, tmp_path / "run", first_run, train__precision=precision)
    tree["model"]["lora"]["dropout"] = 0.0
    train(validate(tree))
    lines = read_metrics(tmp_path / "run")
    at_start = next(line for line in lines if "eval/accuracy" in line)
    steps = [line for line in lines if "loss" in line]
    assert at_start["step"] == 0
    assert at_start["eval/chosen_error_vs_reference"] == 0.0
    assert steps[0]["rewards/margins"] == steps[0]["rewards/chosen"] == 0.0
    assert steps[2]["rewards/margins"] != 0.0


def test_the_reference_stays_and_is_not_the_base(first_run: Path, sd_folder: Path) -> None:
    unet = started(sd_folder, first_run).unet
    torch.manual_seed(0)
    inputs = (torch.randn(1, 4, 8, 8), torch.tensor([500]), torch.randn(1, 24, 16))

    def run() -> torch.Tensor:
        with torch.no_grad():
            return unet(*inputs).sample

    before = run()
    reference = FrozenAdapter(unet)
    trained = [name for name, p in unet.named_parameters() if p.requires_grad]
    assert trained
    assert all(".default." in name for name in trained)
    for name, parameter in unet.named_parameters():
        if parameter.requires_grad:
            parameter.data += 0.1
        assert ("reference" in name) <= (not parameter.requires_grad)
    with reference.active():
        assert torch.equal(run(), before)
        assert not any(p.requires_grad for name, p in unet.named_parameters() if ".reference." in name)
    assert [name for name, p in unet.named_parameters() if p.requires_grad] == trained
    assert not torch.equal(run(), before)
    unet.disable_adapters()
    assert not torch.equal(run(), before)


def test_the_policy_starts_at_the_tuned_weights(first_run: Path, sd_folder: Path) -> None:
    """What a user gets from `load_lora_weights` is what training goes on from, alpha included."""
    pipeline = load_pipeline(read_config(str(sd_folder)), dtype=torch.float32)
    pipeline.load_lora_weights(first_run)
    torch.manual_seed(0)
    inputs = (torch.randn(1, 4, 8, 8), torch.tensor([500]), torch.randn(1, 24, 16))
    with torch.no_grad():
        assert torch.equal(pipeline.unet(*inputs).sample, started(sd_folder, first_run).unet(*inputs).sample)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_tensor_of_the_file_arrives_unrounded(first_run: Path, sd_folder: Path, dtype: torch.dtype) -> None:
    unet = started(sd_folder, first_run, dtype).unet
    adapter = {name.replace(".default", ""): p for name, p in unet.named_parameters() if "lora_" in name}
    saved = {name.removeprefix("unet."): t for name, t in load_file(first_run / LORA_FILE).items()}
    assert adapter.keys() == saved.keys()
    assert any("conv" in name for name in saved)
    for name, parameter in adapter.items():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter.detach(), saved[name])


def test_the_new_file_holds_start_and_change(
    first_run: Path, sd_folder: Path, pairs_folder: Path, tmp_path: Path
) -> None:
    """The result is one LoRA on the original base, without the reference's copy; dropout and resume take part."""
    recipe = validate(second(sd_folder, pairs_folder, tmp_path / "run", first_run))
    folder = train(recipe)
    new, old = load_file(folder / LORA_FILE), load_file(first_run / LORA_FILE)
    assert new.keys() == old.keys()
    assert any(not torch.equal(new[name], old[name]) for name in new)
    assert read_summary(folder)["identity"]["starting LoRA"] == find_start(str(first_run)).hash
    policy = load_policy(read_config(str(sd_folder)), recipe, folder)
    start = load_policy(read_config(str(sd_folder)), recipe, None)
    base = load_pipeline(read_config(str(sd_folder)), dtype=torch.float32)
    assert len({weights_hash(pipeline.unet) for pipeline in (policy, start, base)}) == 3


def test_resume_refuses_another_start(first_run: Path, sd_folder: Path, pairs_folder: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    start.write_bytes((first_run / LORA_FILE).read_bytes())
    tree = second(sd_folder, pairs_folder, tmp_path / "run", start, train__checkpoint_every=2)
    train(validate(tree))
    (tmp_path / "run" / "train.json").unlink()
    tensors = {name: tensor + 0.01 for name, tensor in load_file(start).items()}
    with safe_open(start, framework="pt") as opened:
        save_file(tensors, start, metadata=opened.metadata())
    with pytest.raises(ValueError, match=r"--resume: the (checkpoint|starting LoRA) changed"):
        train(validate(tree), resume=True)


def test_adapters_off_is_refused(first_run: Path, sd_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"the LoRA is not new .* use frozen_adapter"):
        AdaptersOff(started(sd_folder, first_run).unet)


@pytest.mark.parametrize(
    ("reference", "lora", "message"),
    [
        ("adapters_off", {"start": "x"}, "adapters_off is the base without the LoRA"),
        ("frozen_adapter", {"rank": 4}, "frozen_adapter needs a LoRA to start from"),
        ("frozen_adapter", None, "frozen_adapter needs a LoRA to start from"),
    ],
)
def test_a_reference_that_does_not_fit_is_refused_early(reference: str, lora: Any, message: str) -> None:
    tree = tiny.recipe_tree(Path("a/b"), Path("c"), Path("d"), method__reference=reference)
    tree["model"]["lora"] = lora
    with pytest.raises(ValueError, match=message):
        validate(tree)


def test_files_that_cannot_be_gone_on_from_are_named(first_run: Path, sd_folder: Path, tmp_path: Path) -> None:
    tensors = load_file(first_run / LORA_FILE)
    text = {**tensors, "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(2, 2)}
    save_file(text, tmp_path / "text.safetensors")
    with pytest.raises(ValueError, match=r"text\.safetensors: it also changes the text encoder \(1 tensors.*fuse"):
        find_start(str(tmp_path / "text.safetensors"))
    save_file({"a.weight": torch.zeros(1)}, tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match=r"none\.safetensors: holds no LoRA"):
        find_start(str(tmp_path / "none.safetensors"))
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    with pytest.raises(ValueError, match=r"cut\.safetensors: not a readable safetensors file"):
        find_start(str(tmp_path / "cut.safetensors"))
    with pytest.raises(ValueError, match=r"no such file or folder"):
        find_start(str(tmp_path / "absent.safetensors"))
    with pytest.raises(ValueError, match=rf"no {LORA_FILE} in that folder; found: cut.safetensors, none"):
        find_start(str(tmp_path))
    other = {name.replace("attentions.0", "attentions.7"): tensor for name, tensor in tensors.items()}
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors"):
        started(sd_folder, tmp_path / "other.safetensors")


def test_kohya_names_are_understood(first_run: Path, sd_folder: Path, tmp_path: Path) -> None:
    """`lora_unet_..._to_q.lora_down.weight` with its `.alpha`, as kohya's trainer and web UIs name attention layers."""
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(first_run / LORA_FILE).items():
        if ".attn" not in name:
            continue
        place, kind = name.removeprefix("unet.").removesuffix(".weight").rsplit(".", 1)
        flat = "lora_unet_" + place.replace(".", "_")
        tensors[f"{flat}.{'lora_down' if kind == 'lora_A' else 'lora_up'}.weight"] = tensor
        tensors[f"{flat}.alpha"] = torch.tensor(5.0)
    save_file(tensors, tmp_path / "kohya.safetensors")
    unet = started(sd_folder, tmp_path / "kohya.safetensors").unet
    ours = {name.replace(".default", ""): p for name, p in unet.named_parameters() if "lora_" in name}
    saved = load_file(first_run / LORA_FILE)
    assert ours
    for name, parameter in ours.items():
        assert torch.equal(parameter.detach(), saved[f"unet.{name}"])
    layer = next(module for module in unet.modules() if hasattr(module, "scaling") and "default" in module.scaling)
    assert layer.scaling["default"] == pytest.approx(5.0 / 3)


def as_kohya(tensors: dict[str, torch.Tensor], alphas: dict[int, float]) -> dict[str, torch.Tensor]:
    """Attention layers under kohya's names; the n-th layer has the alpha of n modulo the number of alphas."""
    renamed: dict[str, torch.Tensor] = {}
    places = sorted({name.rsplit(".", 2)[0] for name in tensors if ".attn" in name})
    for number, place in enumerate(places):
        flat = "lora_unet_" + place.removeprefix("unet.").replace(".", "_")
        renamed[f"{flat}.lora_down.weight"] = tensors[f"{place}.lora_A.weight"]
        renamed[f"{flat}.lora_up.weight"] = tensors[f"{place}.lora_B.weight"]
        renamed[f"{flat}.alpha"] = torch.tensor(alphas[number % len(alphas)])
    return renamed


def test_kohya_alphas_that_differ_from_layer_to_layer(first_run: Path, sd_folder: Path, tmp_path: Path) -> None:
    """Every layer's scale is its own alpha / rank, in the policy, in the reference, and in the file that comes out.

    Rank 3 with alphas 1.5 and 6: scales 0.5 and 2.
    """
    renamed = as_kohya(load_file(first_run / LORA_FILE), {0: 1.5, 1: 6.0})
    save_file(renamed, tmp_path / "kohya.safetensors")
    pipeline = started(sd_folder, tmp_path / "kohya.safetensors")
    layers = {name: m for name, m in pipeline.unet.named_modules() if "default" in getattr(m, "scaling", {})}
    assert {layer.scaling["default"] for layer in layers.values()} == {0.5, 2.0}
    for name, layer in layers.items():
        alpha = renamed["lora_unet_" + name.replace(".", "_") + ".alpha"].item()
        assert layer.scaling["default"] == alpha / 3
    FrozenAdapter(pipeline.unet)
    assert all(layer.scaling["reference"] == layer.scaling["default"] for layer in layers.values())
    save_lora(tmp_path / "out", type(pipeline), "unet", pipeline.unet, {})
    again = load_pipeline(read_config(str(sd_folder)), dtype=torch.float32)
    load_lora(again, again.unet, tmp_path / "out")
    loaded = {n: next(iter(m.scaling.values())) for n, m in again.unet.named_modules() if getattr(m, "scaling", None)}
    assert loaded == {name: layer.scaling["default"] for name, layer in layers.items()}


def test_a_layer_without_alpha_has_scale_one(first_run: Path, sd_folder: Path, tmp_path: Path) -> None:
    renamed = as_kohya(load_file(first_run / LORA_FILE), {0: 1.5, 1: 3.0})
    save_file({k: v for k, v in renamed.items() if not (k.endswith(".alpha") and v == 3)}, tmp_path / "k.safetensors")
    unet = started(sd_folder, tmp_path / "k.safetensors").unet
    assert {m.scaling["default"] for m in unet.modules() if "default" in getattr(m, "scaling", {})} == {0.5, 1.0}


def test_kohya_numbers_are_not_rounded_either(first_run: Path, sd_folder: Path, tmp_path: Path) -> None:
    saved = load_file(first_run / LORA_FILE)
    save_file(as_kohya(saved, {0: 3.0}), tmp_path / "k.safetensors")
    unet = started(sd_folder, tmp_path / "k.safetensors", torch.bfloat16).unet
    adapter = {name.replace(".default", ""): p for name, p in unet.named_parameters() if "lora_" in name}
    assert adapter
    assert all(torch.equal(p.detach(), saved[f"unet.{name}"]) for name, p in adapter.items())


def test_tuned_weights_are_not_rounded_when_evaluated_in_half_precision(first_run: Path, sd_folder: Path) -> None:
    """Base and tuned must differ by their weights alone: a start LoRA and a tuned one go through the same precision."""
    pipeline = load_pipeline(read_config(str(sd_folder)), dtype=torch.bfloat16)
    load_lora(pipeline, pipeline.unet, first_run)
    saved = {name.removeprefix("unet."): t for name, t in load_file(first_run / LORA_FILE).items()}
    for name, parameter in pipeline.unet.named_parameters():
        if "lora_" in name:
            assert torch.equal(parameter.detach(), saved[name.replace(".default_0", "")])


def test_other_kinds_of_adapters_are_refused_by_their_name(first_run: Path, sd_folder: Path, tmp_path: Path) -> None:
    tensors = load_file(first_run / LORA_FILE)
    some = next(name for name in tensors if name.endswith("lora_A.weight"))
    dora = {**tensors, some.replace("lora_A.weight", "lora_magnitude_vector"): torch.ones(4)}
    save_file(dora, tmp_path / "dora.safetensors")
    with pytest.raises(ValueError, match=r"dora\.safetensors: a DoRA"):
        find_start(str(tmp_path / "dora.safetensors"))
    with safe_open(first_run / LORA_FILE, framework="pt") as opened:
        header = json.loads(opened.metadata()["lora_adapter_metadata"])
    header["unet.init_lora_weights"] = "pissa"
    save_file(tensors, tmp_path / "pissa.safetensors", metadata={"lora_adapter_metadata": json.dumps(header)})
    with pytest.raises(ValueError, match=r"pissa\.safetensors: begun with init_lora_weights=pissa"):
        started(sd_folder, tmp_path / "pissa.safetensors")
