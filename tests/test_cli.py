"""The command line as a user meets it: quick help, and errors that say where and what to do, without a traceback.

Real subprocesses prove what only they can (imports, exit codes, no traceback); where one would load torch for nothing
but a message, `main` is called in this process instead: it must end in SystemExit(2), so nothing else was raised.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny

import mmpo
from mmpo.data.rows import pair_row, pair_schema
from mmpo.data.shards import write_shard
from mmpo.recipe_files import dump, load_recipe, parse_yaml, shipped_recipes, validate
from mmpo.records import Candidate, Group
from pipelines import cli, launch

MMPO = Path(sys.executable).with_name("mmpo")
HEAVY = ("torch", "diffusers", "transformers", "accelerate", "datasets", "numpy", "PIL")
COMMANDS = ("demo", "train", "eval")
RECIPE = "model: {path: some/checkpoint, lora: {rank: 4}}\ndata: {path: some/pairs}\noutput: runs/x\n"
SD15_UNET = 859_520_964
# Rank x (14 c + 2 x 768) per transformer block (to_q, to_k, to_v, to_out of self- and cross-attention), of which
# Stable Diffusion 1.5 has 5, 5 and 6 with c = 320, 640 and 1280. At rank 4 that is the 797,184 known from diffusers.
SD15_LORA_16 = 16 * sum(blocks * (14 * c + 2 * 768) for blocks, c in ((5, 320), (5, 640), (6, 1280)))


class Result(NamedTuple):
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


Main = Callable[..., Result]


def shell(*arguments: object, timeout: float = 120) -> Result:
    """The console script in a process of its own."""
    command = [str(MMPO), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment())
    return Result(done.returncode, done.stdout, done.stderr)


def environment() -> dict[str, str]:
    """This process's, without what would turn tracebacks on or make the command a worker of a launcher."""
    return {key: value for key, value in os.environ.items() if key not in ("MMPO_DEBUG", "RANK", "LOCAL_RANK")}


def python(program: str, *arguments: object) -> str:
    """What a Python program prints."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment()).stdout


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Main:
    """`mmpo ARGUMENTS` in this process; anything but SystemExit is a traceback and fails the test."""
    for name in ("MMPO_DEBUG", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(launch, "should_launch", lambda launcher: False)  # also where there are several GPUs

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["mmpo", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        written = capsys.readouterr()
        return Result(int(ended.value.code or 0), written.out, written.err)

    return call


def assert_refused(result: Result, *parts: str) -> None:
    """Exit code 2 and one message on stderr that holds these parts."""
    assert "Traceback" not in result.out + result.err
    assert result.code == 2, result
    assert result.err.startswith("error: "), result.err
    for part in parts:
        assert part in result.err


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    """A valid recipe whose checkpoint and data do not exist."""
    file = tmp_path / "mine.yaml"
    file.write_text(RECIPE)
    return file


@pytest.fixture
def tiny_recipe(tmp_path: Path, sd_folder: Path, pairs_folder: Path) -> Path:
    """A recipe that would train a tiny checkpoint for one step."""
    tree = tiny.recipe_tree(sd_folder, pairs_folder, tmp_path / "run", train__steps=1)
    file = tmp_path / "tiny.yaml"
    file.write_text(dump(validate(tree)))
    return file


# ------------------------------------------------------------------------------------------------------------ help


@pytest.mark.parametrize("arguments", [("--help",), *((command, "--help") for command in COMMANDS)], ids=" ".join)
def test_help(arguments: Sequence[str]) -> None:
    result = shell(*arguments)
    assert (result.code, result.err) == (0, "")
    assert f"Usage: mmpo {'' if len(arguments) == 1 else arguments[0]}".strip() in result.out
    if len(arguments) == 1:
        assert all(re.search(rf"^  {command} +\w", result.out, re.MULTILINE) for command in COMMANDS)


def test_version() -> None:
    assert shell("--version") == Result(0, f"mmpo {mmpo.__version__}\n", "")


def test_no_arguments_show_the_help(main: Main) -> None:
    result = main()
    assert "Usage: mmpo" in result.out + result.err


def test_help_takes_at_most_half_a_second() -> None:
    """Processor time, the best of three: wall time would measure what else this machine does."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert shell("--help").code == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) <= 0.5


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["train", "--help"], ["train", "sd15_difusion_dpo"], ["train", "sd15_diffusion_dpo", "train.stpes=5"]],
    ids=" ".join,
)
def test_nothing_heavy_is_imported_before_the_input_is_valid(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from pipelines.cli import main\n"
        "sys.argv = ['mmpo', *sys.argv[1:]]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        f"    print('loaded', sorted(set({HEAVY!r}) & sys.modules.keys()))\n"
    )
    assert python(program, *arguments).splitlines()[-1] == "loaded []"


# --------------------------------------------------------------------------------------------------------- recipes


def test_an_unknown_key_in_a_process_of_its_own(recipe_file: Path) -> None:
    result = shell("train", recipe_file, "train.stpes=5")
    assert_refused(result, "mine.yaml", "train.stpes: unknown key", "did you mean 'steps'?")
    assert result.out == ""


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["train.steps=many"], ["train.steps", "valid integer", "'many'"]),
        (["train.steps"], ["override 'train.steps'", "section.key=value"]),
        (["method.loss=dop"], ["loss: unknown name 'dop'", "did you mean 'dpo'?"]),
        (["model.lora=null", "method.reference=adapters_off", "--dry-run"], ["method.reference", "frozen_copy"]),
    ],
    ids=["type", "no value", "loss", "reference"],
)
def test_a_wrong_value(main: Main, recipe_file: Path, arguments: list[str], parts: list[str]) -> None:
    assert_refused(main("train", recipe_file, *arguments), *parts)


def test_a_missing_recipe(main: Main, tmp_path: Path) -> None:
    assert_refused(main("train", "sd15_difusion_dpo"), "did you mean 'sd15_diffusion_dpo'?", *shipped_recipes())
    assert_refused(main("train", tmp_path / "absent.yaml"), "absent.yaml", "give a YAML file or one of")


@pytest.mark.parametrize("arguments", [["train"], ["trian", "x"], ["train", "x", "--resum"], ["eval"]], ids=" ".join)
def test_wrong_usage_shows_the_usage(main: Main, arguments: list[str]) -> None:
    result = main(*arguments)
    assert result.code == 2
    assert "Usage: mmpo" in result.err
    assert "Error: " in result.err


def test_a_fault_of_ours_still_shows_its_traceback(monkeypatch: pytest.MonkeyPatch, recipe_file: Path) -> None:
    """Only errors that a user can mend are made short; a bug report needs the traceback."""
    monkeypatch.setattr(cli, "app", lambda **options: (_ for _ in ()).throw(RuntimeError("a bug")))
    monkeypatch.setattr(sys, "argv", ["mmpo", "train", str(recipe_file)])
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main()


def test_the_environment_can_ask_for_the_traceback(monkeypatch: pytest.MonkeyPatch, recipe_file: Path) -> None:
    monkeypatch.setenv("MMPO_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["mmpo", "train", str(recipe_file), "train.steps=0"])
    with pytest.raises(ValueError, match=r"train\.steps"):
        cli.main()


# --------------------------------------------------------------------------------------------------------- dry run


def test_a_dry_run_of_stable_diffusion_needs_no_weights_and_no_network(tmp_path: Path) -> None:
    result = shell("train", "sd15_diffusion_dpo", "--dry-run", f"data.path={tmp_path / 'pickapic'}")
    assert (result.code, result.err) == (0, "")
    assert f"trains       {SD15_LORA_16:,} of {SD15_UNET:,} parameters of the unet" in result.out
    assert "beta         5000 (half_mean), 2500 (mean), 0.305176 (half_sum)" in result.out
    assert "512 pixels, 16384 latent numbers" in result.out
    assert "next: mmpo train sd15_diffusion_dpo" in result.out
    resolved = validate(parse_yaml(result.out.partition("\n\n")[0], "shown"))
    assert resolved == load_recipe("sd15_diffusion_dpo", [f"data.path={tmp_path / 'pickapic'}"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["model.lora.rank=4"], "trains       797,184 of 859,520,964 parameters"),
        (["model.lora=null", "method.reference=auto"], "trains       859,520,964 of 859,520,964 parameters"),
        (["model.lora=null", "method.reference=auto"], "method       dpo x Denoising x FrozenCopy"),
        (["method={loss: sft}"], "method       sft x Denoising x AdaptersOff"),
        (["method.beta_convention=mean", "method.beta=2500"], "beta         5000 (half_mean), 2500 (mean), 0.305176"),
        (["method.beta_convention=half_sum", "method.beta=1"], "beta         16384 (half_mean), 8192 (mean), 1 (half"),
        (["data.resolution=1024"], "resolution   1024 pixels, 65536 latent numbers"),
    ],
    ids=["rank 4", "full", "full reference", "sft", "mean", "half_sum", "resolution"],
)
def test_a_dry_run_says_what_the_recipe_means(main: Main, arguments: list[str], line: str) -> None:
    result = main("train", "sd15_diffusion_dpo", "--dry-run", *arguments)
    assert result.code == 0
    assert line in result.out


def test_the_line_after_a_dry_run_repeats_what_was_asked_for(main: Main) -> None:
    """Copied as it stands, it must train what the dry run described."""
    result = main("train", "sd15_diffusion_dpo", "--dry-run", "model.lora.rank=8", "output=runs/other")
    assert result.out.splitlines()[-1] == "nothing was run; next: mmpo train sd15_diffusion_dpo " + (
        "model.lora.rank=8 output=runs/other"
    )


def test_a_dry_run_names_the_format_of_data_that_is_there(main: Main, tiny_recipe: Path, pairs_folder: Path) -> None:
    result = main("train", tiny_recipe, "--dry-run")
    assert result.code == 0
    assert f"data         {pairs_folder}: format pairs" in result.out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["evaluation.prompts=absent.txt"], ["no file 'absent.txt'", "a prompt a line"]),
        (["evaluation.prompts=shapes/validation"], ["no split 'validation'", "train, tune, test"]),
        (["evaluation.rewards=[rondom]"], ["did you mean 'random'?"]),
        (["data.make.prompts=absent.txt", "data.make.reward=random"], ["no file 'absent.txt'"]),
        (["data.make.prompts=shapes/tune", "data.make.reward=rondom"], ["did you mean 'random'?"]),
        (["method.adapter=flow"], ["method.adapter", "'flow' does not fit", "use 'denoising'"]),
        (["model.lora.targets=[to_z]"], ["model.lora.targets", "no module of the unet", "to_z"]),
        (["data.resolution=1"], ["data.resolution"]),
    ],
    ids=["prompts", "split", "reward", "make prompts", "make reward", "adapter", "targets", "resolution"],
)
def test_a_dry_run_finds_what_training_or_evaluation_would_fail_on(
    main: Main, tiny_recipe: Path, arguments: list[str], parts: list[str]
) -> None:
    assert_refused(main("train", tiny_recipe, "--dry-run", *arguments), *parts)


# ------------------------------------------------------------------------------------------------- checkpoints, data


def test_an_unusable_model_path(main: Main, recipe_file: Path, tmp_path: Path) -> None:
    def try_path(path: object) -> Result:
        return main("train", recipe_file, "--dry-run", f"model.path={path}")

    assert_refused(try_path(tmp_path / "nowhere"), "model.path", "nowhere", "no such folder")
    misspelt = "stable-diffusion-v1-5/stable-difusion-v1-5"
    assert_refused(try_path(misspelt), misspelt, "Did you mean 'stable-diffusion-v1-5/stable-diffusion-v1-5'?")
    assert_refused(try_path("model.safetensors"), "single-file checkpoints", "give a diffusers folder")
    (tmp_path / "empty").mkdir()
    assert_refused(try_path(tmp_path / "empty"), "model_index.json is missing", "expected a diffusers folder")
    (tmp_path / "empty" / "model_index.json").write_text('{"_class_name": "MysteryPipeline"}')
    assert_refused(try_path(tmp_path / "empty"), "MysteryPipeline is not supported", "StableDiffusionPipeline")
    (tmp_path / "empty" / "model_index.json").write_text('{"_class_name": ')
    assert_refused(try_path(tmp_path / "empty"), "model_index.json is not valid JSON")


def test_a_missing_column(main: Main, tiny_recipe: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": ["a"], "chosen": [b"x"]}), tmp_path / "pairs.parquet")
    result = main("train", tiny_recipe, "--dry-run", f"data.path={tmp_path / 'pairs.parquet'}", "data.format=pairs")
    assert_refused(result, "pairs.parquet", "missing: rejected", "found the columns prompt, chosen")


def test_a_missing_data_folder_in_a_process_of_its_own(tiny_recipe: Path, tmp_path: Path) -> None:
    result = shell("train", tiny_recipe, f"data.path={tmp_path / 'nowhere'}")
    assert_refused(Result(result.code, result.out, last_line(result.err)), "data.path", "nowhere", "no such file")
    assert "Traceback" not in result.err
    assert not (tmp_path / "run").exists()


def last_line(text: str) -> str:
    """The message; libraries may have written before it."""
    return text.strip().splitlines()[-1]


@pytest.fixture
def corrupt_pairs(tmp_path: Path) -> Path:
    """Four pairs; the rejected image of row 2 is cut off."""
    groups = tiny.make_groups(4)
    broken = Candidate(groups[2].candidates[1].image[:60])
    groups[2] = Group(groups[2].id, groups[2].prompt, [groups[2].candidates[0], broken])
    write_shard(tmp_path / "pairs", 0, [pair_row(group) for group in groups], pair_schema())
    return tmp_path / "pairs"


def test_a_corrupt_image_is_named_by_file_and_row(main: Main, tiny_recipe: Path, corrupt_pairs: Path) -> None:
    result = main("train", tiny_recipe, f"data.path={corrupt_pairs}", "data.on_bad_row=error")
    assert_refused(result, "shard-00000.parquet, row 2, rejected: the image is corrupt")


def test_a_skipped_image_is_counted_and_named(main: Main, tiny_recipe: Path, corrupt_pairs: Path) -> None:
    result = main("train", tiny_recipe, f"data.path={corrupt_pairs}", "evaluation.held_out_pairs=0")
    assert result.code == 0
    assert f"{corrupt_pairs}: 4 rows, left out: 1 bad" in result.out
    assert "warning: skipped" in result.out
    assert "shard-00000.parquet, row 2, rejected: the image is corrupt" in result.out
    assert "3 training pairs, 0 held out" in result.out
    assert result.out.splitlines()[-1] == f"next: mmpo eval {tiny_recipe.parent / 'run'}"


def test_no_usable_pair_at_all(main: Main, tiny_recipe: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": [""], "chosen": [b"x"], "rejected": [b"y"]}), tmp_path / "pairs.parquet")
    result = main("train", tiny_recipe, f"data.path={tmp_path / 'pairs.parquet'}")
    assert_refused(result, "no training pairs are left")
    assert "pairs.parquet, row 0: column 'prompt' is empty" in result.out


def test_an_output_folder_that_holds_a_run(main: Main, tiny_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoint-000004").mkdir(parents=True)
    result = main("train", tiny_recipe)
    assert_refused(result, "holds a run already (checkpoint-000004)", "add --resume", "output=FOLDER")


def test_an_output_folder_that_holds_a_finished_run_without_checkpoints(
    main: Main, tiny_recipe: Path, tmp_path: Path
) -> None:
    """People delete checkpoints to save space; the weights beside them took just as long."""
    (tmp_path / "run").mkdir()
    for name in ("train.json", "recipe.yaml", "pytorch_lora_weights.safetensors"):
        (tmp_path / "run" / name).write_text("{}")
    assert_refused(main("train", tiny_recipe, "data.path=/nowhere"), "holds a finished run", "output=FOLDER")


def test_resume_without_a_checkpoint(main: Main, tiny_recipe: Path, tmp_path: Path) -> None:
    assert_refused(main("train", tiny_recipe, "--resume"), "--resume: no checkpoint in", str(tmp_path / "run"))


# ------------------------------------------------------------------------------------------------------ evaluation


def test_eval_of_a_folder_that_is_no_run_in_a_process_of_its_own(tmp_path: Path) -> None:
    result = shell("eval", tmp_path)
    assert "Traceback" not in result.err
    assert_refused(Result(result.code, result.out, last_line(result.err)), str(tmp_path), "train.json is missing")
    assert "mmpo train" in result.err


@pytest.fixture
def finished_run(tmp_path: Path, tiny_recipe: Path) -> Path:
    """A folder that says of itself that it is a finished run, which is all that the first checks look at."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "train.json").write_text(json.dumps({"identity": {"base weights": "0"}}))
    (folder / "recipe.yaml").write_text(tiny_recipe.read_text())
    return folder


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["set evaluation.prompts", "evaluation.rewards"]),
        (["evaluation.prompts=shapes/test"], ["evaluation.rewards"]),
        (["evaluation.prompts=absent.txt", "evaluation.rewards=[random]"], ["no file 'absent.txt'"]),
        (["evaluation.prompts=shapes/test", "evaluation.rewards=[rondom]"], ["did you mean 'random'?"]),
        (["evaluation.smaples=3"], ["evaluation.smaples: unknown key", "did you mean 'samples'?"]),
        (["evaluation.samples=0"], ["evaluation.samples", "greater than 0"]),
    ],
    ids=["nothing set", "no rewards", "prompts", "reward", "key", "value"],
)
def test_eval_refuses_before_it_samples(main: Main, finished_run: Path, arguments: list[str], parts: list[str]) -> None:
    assert_refused(main("eval", finished_run, *arguments), *parts)
    assert not (finished_run / "evaluation.json").exists()


def test_a_run_whose_recipe_was_edited_wrongly_is_named(main: Main, finished_run: Path) -> None:
    (finished_run / "recipe.yaml").write_text(RECIPE + "train: {stpes: 5}\n")
    assert_refused(main("eval", finished_run), str(finished_run / "recipe.yaml"), "train.stpes: unknown key")
