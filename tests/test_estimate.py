"""`mmpo estimate`: its counts against real modules, real caches and real checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import command_line
import forks
import pytest
import tiny
import torch
from command_line import Main, assert_refused

from mmpo.data.cache import TensorCache
from mmpo.models.checkpoint import CheckpointConfig, read_config
from mmpo.models.families import encode_images, images_at_once
from mmpo.models.loading import load_pipeline
from mmpo.recipe import Lora, Recipe
from mmpo.recipe_files import changed, validate
from pipelines.devices import DEVICES, Device, find_device
from pipelines.disk import checkpoints, latent_cache, text_cache
from pipelines.dry_run import describe
from pipelines.estimate import Counting, Estimate, estimate
from pipelines.live_bytes import LiveBytes
from pipelines.memory import total
from pipelines.meta_counts import Shape, condition_shapes, counter_of, step_inputs
from pipelines.switches import SWITCHES, available
from pipelines.text_sizes import PUBLISHED, count_text_encoder, text_parameters
from pipelines.train import train

main = command_line.main
CARD = Device("4090", 24, 165, 82.6)
LORA = Lora(rank=4).model_dump_json()


def recipe(folder: Path, **changes: Any) -> Recipe:
    """A recipe of a tiny checkpoint, whose pairs and run are not there."""
    return validate(tiny.recipe_tree(folder, Path("nowhere"), Path("runs/nowhere"), **changes))


def part(found: Estimate, phase: str, name: str) -> int:
    """Bytes of one part; 0 where it is left out."""
    return sum(piece.bytes for piece in found.phases[phase] if piece.name == name)


@pytest.fixture(scope="module", params=["sd", "sdxl", "sd3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint of each family."""
    made: Path = tiny.MAKERS[request.param](tmp_path_factory.mktemp("estimate") / request.param)
    return made


def test_parameters_are_those_of_the_real_modules(folder: Path) -> None:
    pipeline = load_pipeline(read_config(str(folder)), dtype=torch.float32)
    sizes = {
        name: sum(p.numel() for p in module.parameters())
        for name, module in pipeline.components.items()
        if isinstance(module, torch.nn.Module)
    }
    denoiser = sizes.pop("transformer" if "transformer" in sizes else "unet")
    found = estimate(recipe(folder), CARD)
    assert part(found, "encoding the data", "frozen weights") == 4 * denoiser
    assert part(found, "encoding the data", "VAE") == 4 * sizes.pop("vae")
    assert part(found, "encoding the data", "text encoders") == 4 * sum(sizes.values())
    assert text_parameters(found.config)[1]  # from the checkpoint's own configs


def test_a_lora_is_counted_as_the_dry_run_counts_it(folder: Path) -> None:
    asked = recipe(folder, train__ema=0.9)
    (line,) = [line for line in describe(asked) if line.startswith("trains")]
    trained = int(line.split()[1].replace(",", ""))
    found = estimate(asked, CARD)
    for name, each in (("trained weights", 4), ("gradients", 4), ("optimiser state", 8), ("moving average", 4)):
        assert part(found, "training", name) == each * trained
    assert part(found, "training", "reference") == 0


def test_a_full_fine_tune_has_a_copy_as_its_reference(sd_folder: Path) -> None:
    found = estimate(recipe(sd_folder, model__lora=None), CARD)
    weights = part(found, "training", "trained weights")
    assert part(found, "training", "frozen weights") == 0
    assert part(found, "training", "reference") == part(found, "encoding the data", "trained weights") == weights


def test_more_pairs_and_more_pixels_take_more(sd_folder: Path) -> None:
    def activations(**changes: Any) -> int:
        return part(estimate(recipe(sd_folder, **changes), CARD), "training", "activations")

    small = activations(train__micro_batch_size=1)
    assert small < activations(train__micro_batch_size=2) < activations(train__micro_batch_size=4)
    assert 3 * small < activations(train__micro_batch_size=1, data__resolution=32)


@pytest.mark.parametrize("trains", [LORA, None], ids=["lora", "full"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
def test_the_count_is_what_a_real_step_keeps(folder: Path, trains: str | None, checkpointing: bool) -> None:
    """The same step on the CPU with real weights: every storage that is alive, followed from outside."""
    config = read_config(str(folder))
    shape = Shape(trains, torch.float32, None, config.resolution, checkpointing, cuda=False)
    assert counter_of(config).step(shape).at(4) == pytest.approx(real_peak(config, shape, 4), rel=0.03)


def real_peak(config: CheckpointConfig, shape: Shape, images: int) -> int:
    """Bytes at the peak of forward and backward with real tensors."""
    from mmpo.models.lora import add_lora

    module = getattr(load_pipeline(config, dtype=torch.float32), config.family.denoiser).train()
    if shape.lora is not None:
        add_lora(module, Lora.model_validate_json(shape.lora), config.family, seed=0)
    if shape.checkpointing:
        module.enable_gradient_checkpointing()
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight) if weight.requires_grad else None
    noisy, times, condition = step_inputs(config, shape, images)
    inputs = [torch.zeros(x.shape, dtype=x.dtype) for x in (noisy, times)]
    given = {name: torch.zeros(x.shape, dtype=x.dtype) for name, x in condition.items()}
    known = [*module.parameters(), *module.buffers(), *(p.grad for p in module.parameters() if p.grad is not None)]
    with LiveBytes(known) as live:
        config.family.predict(module, *inputs, given).square().mean().backward()
    return live.peak


def test_checkpointing_keeps_less(sd_folder: Path) -> None:
    counter = counter_of(read_config(str(sd_folder)))
    shapes = [Shape(LORA, torch.bfloat16, torch.bfloat16, 32, again, cuda=True) for again in (False, True)]
    kept, again = (counter.step(shape).at(4) for shape in shapes)
    assert again < 0.8 * kept


def test_live_bytes_follow_what_is_alive() -> None:
    weight = torch.ones(100)
    with LiveBytes([weight]) as live:
        first = weight * 2
        view = first[:10]
        second = first + 1
        del first
        assert live.live == 800  # the view holds the first
        del view, second
    assert (live.live, live.peak) == (0, 800)


def test_operations_of_a_linear_model(sd_folder: Path) -> None:
    """A step of n pairs is n times one; a copy for the reference changes none, checkpointing adds a forward."""
    config = read_config(str(sd_folder))
    counting = Counting(config, cuda=True)
    one = recipe(sd_folder, train__batch_size=1)
    operations = counting.operations(one)
    assert counting.operations(recipe(sd_folder, train__batch_size=4)) == 4 * operations
    forward, backward = counter_of(config).flops(counting.shape(one))
    assert operations == 2 * (2 * forward + backward)
    assert counting.operations(changed(one, ["train.gradient_checkpointing=true"])) - operations == 2 * forward


def test_a_forward_of_stable_diffusion_is_as_known() -> None:
    """0.80 T operations (402 G multiply-adds) at 64 x 64 cells, as profilers of its UNet give it."""
    config = read_config("stable-diffusion-v1-5/stable-diffusion-v1-5")
    forward, _ = counter_of(config).flops(Shape(None, torch.float32, None, 512, False, cuda=True))
    assert forward == pytest.approx(0.80e12, rel=0.02)


# ------------------------------------------------------------------------------------------------------- disk


def test_caches_take_what_is_said(folder: Path, tmp_path: Path) -> None:
    """A real run's cache folder, whose files hold a header beside the numbers."""
    tiny.make_pairs(tmp_path / "pairs", 200)
    tree = tiny.recipe_tree(folder, tmp_path / "pairs", tmp_path / "run", train__steps=1, evaluation__held_out_pairs=0)
    train(validate(tree))
    config = read_config(str(folder))
    (latents,) = (tmp_path / "pairs" / ".cache").glob("latents-*")
    (texts,) = (tmp_path / "pairs" / ".cache").glob("text-*")
    said = 200 * latent_cache((4, 8, 8))
    assert said < size_of(latents) < 1.02 * said + 2000
    prompts = len(TensorCache(texts.parent, "text", about(texts)))
    said = prompts * text_cache(condition_shapes(config), 4)
    assert said < size_of(texts) < said + 100 * prompts + 2000  # letters of the prompts
    trained = Counting(config, cuda=False).sizes(validate(tree)).trained
    said = checkpoints(trained, master_bytes=4, state_bytes=8, ema=False, keep=0)
    (state,) = (tmp_path / "run").glob("checkpoint-*")
    weights = sum((state / f"{stem}.safetensors").stat().st_size for stem in ("weights", "optimizer"))
    assert said < weights < 1.3 * said + 40_000  # headers with a name for each of many tiny tensors


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def about(folder: Path) -> dict[str, Any]:
    made_by = json.loads((folder / "about.json").read_text())
    del made_by["kind"]
    return dict(made_by)


DOC = Path(__file__).parent.parent / "docs" / "estimate.md"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("SD 1.5", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        ("SDXL", "stabilityai/stable-diffusion-xl-base-1.0"),
        ("SD3 medium", "stabilityai/stable-diffusion-3-medium-diffusers"),
    ],
)
def test_the_table_of_caches_in_the_documents(name: str, path: str) -> None:
    config = read_config(path)
    cells = config.resolution // config.downscale
    latents = latent_cache((int(config.denoiser["in_channels"]), cells, cells))
    texts = text_cache(condition_shapes(config), 2)
    row = f"| {name} | {config.resolution} | {latents * 1000 / 1e9:.2f} GB | {texts * 1000 / 1e9:.2f} GB |"
    assert row in DOC.read_text(encoding="utf-8")


def test_the_vae_takes_a_bounded_number_of_images(sd_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (images_at_once(512, 512), images_at_once(1024, 1024), images_at_once(4096, 4096)) == (4, 1, 1)
    vae = load_pipeline(read_config(str(sd_folder)), dtype=torch.float32).vae
    pixels = torch.rand(5, 3, 16, 16)
    whole = encode_images(vae, pixels)
    calls: list[int] = []
    encode = vae.encode
    monkeypatch.setattr(vae, "encode", lambda part: (calls.append(len(part)), encode(part))[1])
    monkeypatch.setattr("mmpo.models.families.ENCODED_AT_ONCE", 2 * 16 * 16)
    parts = encode_images(vae, pixels)
    assert calls == [2, 2, 1]
    for together, apart in zip(whole, parts, strict=True):
        assert torch.allclose(together, apart, atol=1e-5)


def test_published_text_encoders_are_what_their_configs_make() -> None:
    big = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
    t5 = {"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
    clip = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    made = {
        "text_encoder": {"architectures": ["CLIPTextModelWithProjection"], "projection_dim": 768, **clip},
        "text_encoder_2": {"architectures": ["CLIPTextModelWithProjection"], "projection_dim": 1280, **big},
        "text_encoder_3": {"architectures": ["T5EncoderModel"], "feed_forward_proj": "gated-gelu", **t5},
    }
    assert {name: count_text_encoder(said) for name, said in made.items()} == PUBLISHED["sd3"]
    assert count_text_encoder({"architectures": ["CLIPTextModel"], **clip}) == PUBLISHED["sd"]["text_encoder"]


# --------------------------------------------------------------------------------------------------- switches


def test_what_to_turn_makes_it_fit(sd_folder: Path) -> None:
    asked = recipe(sd_folder, model__lora=None, train__micro_batch_size=4)
    needed = estimate(asked, CARD).peak
    context = 1e9 / 2**30
    tight = (needed / 2**30 - context) * 0.6 + context
    found = estimate(asked, CARD, tight)
    assert found.fits is False
    assert found.fits_with
    assert estimate(changed(asked, found.fits_with), CARD, tight).fits
    for text in found.fits_with:
        fewer = [other for other in found.fits_with if other != text]
        try:
            assert not estimate(changed(asked, fewer), CARD, tight).fits
        except ValueError:
            continue  # it belongs to another
    assert all(turn.bytes <= needed for turn in found.turns)
    assert estimate(asked, CARD, 0.5).fits_with is None  # less than the context alone


def test_switches_are_those_that_the_recipe_has(sd_folder: Path) -> None:
    asked = recipe(sd_folder)
    offered = {switch.key: list(overrides) for switch, overrides in available(asked)}
    assert offered["train.gradient_checkpointing"] == ["train.gradient_checkpointing=true"]
    assert offered["train.micro_batch_size"] == ["train.micro_batch_size=1"]
    assert "model.lora" not in offered  # it is one
    assert "train.gradient_checkpointing" not in {
        switch.key: 0 for switch, _ in available(recipe(sd_folder, train__gradient_checkpointing=True))
    }
    for overrides in offered.values():
        changed(asked, overrides)
    assert len({switch.key for switch in SWITCHES}) == len(SWITCHES)


# ----------------------------------------------------------------------------------------------- command line


def test_the_command_needs_no_weights_and_no_network() -> None:
    result = forks.call(forks.mmpo, "estimate", "sd15_diffusion_dpo", "--device", "H100")
    assert (result.code, result.err) == (0, "")
    assert "GiB of 80.0 on H100: it fits" in result.out
    assert "encoding the data" in result.out
    assert "an assumption" in result.out
    assert "hours for 2000 steps" in result.out
    assert result.out.splitlines()[-1].startswith("next: mmpo train sd15_diffusion_dpo")


def test_json_and_the_pace_of_a_run(main: Main, sd_folder: Path, pairs_folder: Path, tmp_path: Path) -> None:
    run = train(validate(tiny.recipe_tree(sd_folder, pairs_folder, tmp_path / "run", train__steps=3)))
    paces = [json.loads(line).get("pairs_per_second") for line in (run / "metrics.jsonl").read_text().splitlines()]
    second, third = [pace for pace in paces if pace is not None][1:]
    result = main("estimate", run, "--json", "--device", "A100")
    told = json.loads(result.out)
    assert told["seconds_per_step"] == pytest.approx(4 / ((second + third) / 2))
    assert told["speed"].startswith("measured")
    assert told["fits"] is True
    assert told["peak_bytes"] == max(sum(p["bytes"] for p in parts) for parts in told["phases"].values())


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["sd15_difusion_dpo"], ["did you mean 'sd15_diffusion_dpo'"]),
        (["sd15_diffusion_dpo", "--device", "4091"], ["--device", "4090", "cpu"]),
        (["sd15_diffusion_dpo", "--memory", "-1"], ["--memory", "above 0"]),
        ([], ["give a recipe"]),
        (["sd15_diffusion_dpo", "data.resolution=500"], ["data.resolution", "multiple"]),
    ],
    ids=["recipe", "device", "memory", "nothing", "resolution"],
)
def test_refusals(main: Main, arguments: list[str], parts: list[str]) -> None:
    assert_refused(main("estimate", *arguments), *parts)


def test_devices() -> None:
    assert find_device("rtx 4090") is DEVICES["4090"]
    assert find_device("cpu").peak("bf16") is None
    assert DEVICES["A100"].peak("fp32") == 19.5
    assert DEVICES["A100"].peak("fp64") is None


def test_phases_leave_out_what_a_run_does_not_do(sd_folder: Path) -> None:
    found = estimate(recipe(sd_folder), CARD)
    assert set(found.phases) == {"encoding the data", "training"}
    drawn = estimate(recipe(sd_folder, evaluation__previews={"count": 2}), CARD)
    assert set(drawn.phases) == {"encoding the data", "training", "previews"}
    assert all(total(parts) > 0 for parts in drawn.phases.values())
