"""Flags whose meaning needs thought: other units, other names of values, several that mean something together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from mmpo.loss_table import LOSS_TABLE
from mmpo.recipe import Optim
from mmpo.suggest import one_of
from pipelines.flag_parts import Flag, Gathered

SCHEDULES: tuple[str, ...] = get_args(Optim.model_fields["schedule"].annotation)
PRECISIONS = {"no": "fp32", "fp16": "fp16", "bf16": "bf16"}
DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
ADAMW = ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw")
STRATEGIES: dict[str, tuple[str, tuple[str, str] | None]] = {
    "eval": ("evaluation.every", ("evaluation.held_out_pairs", "0")),
    "evaluation": ("evaluation.every", ("evaluation.held_out_pairs", "0")),
    "save": ("train.checkpoint_every", None),
    "logging": ("train.log_every", None),
}
"""First word of a flag -> the key that counts steps, and (key, value) of never where there is one."""


def combine(gathered: Gathered, num_processes: int) -> None:
    """Turns the values that waited for each other into overrides."""
    held = gathered.held
    _batch_size(gathered, num_processes)
    if "beta1" in held or "beta2" in held:
        first, second = Optim.model_fields["betas"].default
        pair = held.get("beta1", ("", str(first)))[1], held.get("beta2", ("", str(second)))[1]
        gathered.put(held.get("beta1", held.get("beta2", ("", "")))[0], "optim.betas", f"[{pair[0]}, {pair[1]}]")
    _schedule(gathered)
    _beta(gathered)
    if "prompts" in held:
        gathered.put(held["prompts"][0], "evaluation.previews.prompts", json.dumps(held["prompts"][1]))
    _hub(gathered)


def _waits_as(name: str) -> Callable[[Flag, Gathered], None]:
    return lambda flag, gathered: gathered.hold(name, flag.typed, flag.value())


def _push(flag: Flag, gathered: Gathered) -> None:
    gathered.hold("push", flag.typed, flag.truth())


def _mixed_precision(flag: Flag, gathered: Gathered) -> None:
    value, names = flag.value(), PRECISIONS if flag.name == "mixed_precision" else DTYPES
    if value not in names:
        raise ValueError(f"{flag.typed}: expected {', '.join(names)}, got '{value}'")
    note = f"{flag.typed} {value} is train.precision={names[value]} here"
    gathered.put(flag.typed, "train.precision", names[value], note)


def _half_precision(flag: Flag, gathered: Gathered) -> None:
    if flag.truth():
        gathered.put(flag.typed, "train.precision", flag.name, f"{flag.typed} is train.precision={flag.name} here")
    else:
        gathered.notes.append(f"{flag.typed} false changes nothing; train.precision=fp32 asks for full precision")


def _loss_type(flag: Flag, gathered: Gathered) -> None:
    value = flag.value()
    loss = "dpo" if value == "sigmoid" else value
    if loss not in LOSS_TABLE:
        raise ValueError(f"{flag.typed}: {one_of(loss, [*LOSS_TABLE, 'sigmoid'])}; `mmpo losses` describes them")
    gathered.hold("loss", flag.typed, loss)
    gathered.put(flag.typed, "method.loss", loss, f"{flag.typed} {value} is method.loss={loss} here")


def _resume(flag: Flag, gathered: Gathered) -> None:
    value = flag.value() if flag.has_value() else "latest"
    if value.lower() == "false":
        return
    if value.lower() not in ("latest", "true"):
        raise ValueError(
            f"{flag.typed} {value}: a run goes on from the newest whole checkpoint of its own folder; instead give "
            f"output={Path(value).parent} --resume"
        )
    if "--resume" not in gathered.kept:
        gathered.kept.append("--resume")
    gathered.notes.append(f"{flag.typed} {value} is --resume here")


def _prompt(flag: Flag, gathered: Gathered) -> None:
    values = flag.values() if flag.name.endswith("s") else [flag.value()]
    typed, known = gathered.held.get("prompts", (flag.typed, []))
    gathered.held["prompts"] = (typed, [*known, *values])


def _report_to(flag: Flag, gathered: Gathered) -> None:
    names = {"all": ["tensorboard", "wandb"], "none": [], "tensorboard": ["tensorboard"], "wandb": ["wandb"]}
    chosen: list[str] = []
    values = [flag.value()]
    while flag.inline is None and flag.rest and flag.rest[0] in names:
        values.append(flag.rest.pop(0))
    for value in values:
        if value not in names:
            raise ValueError(f"{flag.typed}: {one_of(value, names)}")
        chosen += [name for name in names[value] if name not in chosen]
    gathered.put(flag.typed, "train.report_to", json.dumps(chosen))


def _targets(flag: Flag, gathered: Gathered) -> None:
    names = [name for value in flag.values() for name in value.split(",") if name]
    gathered.put(flag.typed, "model.lora.targets", json.dumps(names))


def _dtype(flag: Flag, gathered: Gathered) -> None:
    if flag.has_value() and (flag.inline or flag.rest[0]) == "auto":
        flag.value()
        gathered.notes.append(f"{flag.typed} auto changes nothing; train.precision says it")
    else:
        _mixed_precision(flag, gathered)


def _optimiser(flag: Flag, gathered: Gathered) -> None:
    value = flag.value()
    if value not in ADAMW:
        raise ValueError(f"{flag.typed} {value}: the optimiser is AdamW; leave it out (its settings are in optim)")
    gathered.notes.append(f"{flag.typed} {value} is not needed: the optimiser is AdamW")


def _strategy(flag: Flag, gathered: Gathered) -> None:
    """When something is done: theirs is a word and a number, ours the number of steps."""
    key, none = STRATEGIES[flag.name.partition("_")[0]]
    value = flag.value()
    if value == "steps":
        gathered.notes.append(f"{flag.typed} steps is not needed: {key} says how many")
    elif value == "no" and none is not None:
        gathered.put(flag.typed, *none, f"{flag.typed} no is {'='.join(none)} here")
    else:
        raise ValueError(f"{flag.typed} {value}: counted in steps here; give {key}=STEPS")


def _caption_column(flag: Flag, gathered: Gathered) -> None:
    """The prompt is `prompt` in most formats of the data and `caption` in Pick-a-Pic's."""
    value = flag.value()
    if value in ("prompt", "caption"):
        gathered.notes.append(f"{flag.typed} {value} is not needed: the column is found by that name")
        return
    note = f"{flag.typed} {value} is data.columns={{prompt: {value}}} here; for the format pick_a_pic, give caption"
    gathered.put(flag.typed, "data.columns", json.dumps({"prompt": value}), note)


SPECIAL: dict[str, Callable[[Flag, Gathered], None]] = {
    "train_batch_size": _waits_as("batch"),
    "per_device_train_batch_size": _waits_as("batch"),
    "gradient_accumulation_steps": _waits_as("accumulation"),
    "adam_beta1": _waits_as("beta1"),
    "adam_beta2": _waits_as("beta2"),
    "beta_dpo": _waits_as("beta"),
    "beta": _waits_as("beta"),
    "lr_scheduler": _waits_as("schedule"),
    "lr_scheduler_type": _waits_as("schedule"),
    "lr_warmup_steps": _waits_as("warmup"),
    "warmup_steps": _waits_as("warmup"),
    "push_to_hub": _push,
    "hub_model_id": _waits_as("hub"),
    "mixed_precision": _mixed_precision,
    "bf16": _half_precision,
    "fp16": _half_precision,
    "torch_dtype": _dtype,
    "dtype": _dtype,
    "optim": _optimiser,
    "eval_strategy": _strategy,
    "evaluation_strategy": _strategy,
    "save_strategy": _strategy,
    "logging_strategy": _strategy,
    "caption_column": _caption_column,
    "loss_type": _loss_type,
    "loss": _loss_type,
    "resume_from_checkpoint": _resume,
    "validation_prompt": _prompt,
    "validation_prompts": _prompt,
    "report_to": _report_to,
    "lora_target_modules": _targets,
}
"""Flag -> what reads it."""


def _batch_size(gathered: Gathered, processes: int) -> None:
    """Theirs is counted per process and accumulation step, ours over all of them."""
    held = gathered.held
    if "batch" not in held:
        if "accumulation" in held:
            flag = held["accumulation"][0]
            raise ValueError(
                f"{flag}: give --train_batch_size too; or train.batch_size, the pairs of a whole step, and "
                "train.micro_batch_size, the pairs of one forward"
            )
        return
    flag, micro = held["batch"][0], _count(*held["batch"])
    steps = _count(*held["accumulation"]) if "accumulation" in held else 1
    gathered.put(flag, "train.micro_batch_size", str(micro))
    gathered.put(
        flag,
        "train.batch_size",
        str(micro * steps * processes),
        f"{flag} {micro} x {steps} accumulation steps x {processes} process(es) is train.batch_size="
        f"{micro * steps * processes} here: it counts the pairs of a step over all processes and accumulation",
    )


def _count(flag: str, text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"{flag}: expected a number of at least 1, got '{text}'")
    return int(text)


def _schedule(gathered: Gathered) -> None:
    """Their constant schedule ignores the warm-up; ours refuses one."""
    flag, name = gathered.held.get("schedule", ("", ""))
    warmup_flag, warmup = gathered.held.get("warmup", ("", "0"))
    if flag:
        if name not in SCHEDULES:
            raise ValueError(f"{flag}: {one_of(name, SCHEDULES)}")
        gathered.put(flag, "optim.schedule", name)
    if name == "constant":
        ignored = f" ({warmup_flag} {warmup} is ignored there too; constant_with_warmup has one)"
        note = f"{flag} constant has no warm-up{ignored if warmup != '0' else ''}"
        gathered.put(warmup_flag or flag, "optim.warmup_steps", "0", note)
    elif warmup_flag:
        gathered.put(warmup_flag, "optim.warmup_steps", warmup)


def _beta(gathered: Gathered) -> None:
    """The strength of the loss that is named, else of the recipe's; the same number is not the same strength."""
    if "beta" not in gathered.held:
        return
    flag, value = gathered.held["beta"]
    name = "beta"
    if "loss" in gathered.held:
        loss = gathered.held["loss"][1]
        options = LOSS_TABLE[loss].options
        if not {"beta", "tau"} & options.keys():
            raise ValueError(f"{flag}: loss '{loss}' has no beta; leave it out")
        name = "beta" if "beta" in options else "tau"
    note = (
        f"{flag} is method.{name} here, in the convention of the official Diffusion-DPO code; coming from diffusers' "
        "script, whose formula has no 1/2, add method.beta_convention=mean"
    )
    gathered.put(flag, f"method.{name}", value, note)


def _hub(gathered: Gathered) -> None:
    push_flag, push = gathered.held.get("push", ("", False))
    flag, name = gathered.held.get("hub", ("", None))
    if push and name is None:
        raise ValueError(f"{push_flag}: give the name too, --hub_model_id USER/NAME; or push_to_hub=USER/NAME alone")
    if push:
        gathered.put(flag, "push_to_hub", json.dumps(name), f"{push_flag} {flag} {name} is push_to_hub={name} here")
    elif name is not None:
        gathered.notes.append(f"{flag} alone uploads nothing; push_to_hub={name} does")
