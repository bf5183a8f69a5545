"""Bad inputs that end a command before anything is written: columns, files, recipes, outputs, runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from bad_inputs import GOOD, PAIR, PICK_A_PIC, Case, World
from tiny import make_pairs, picture


def table(name: str, rows: Sequence[dict[str, Any]] | pa.Table, *says: str, more: Sequence[str] = ()) -> Case:
    """A parquet file as a whole."""

    def make(world: World) -> list[object]:
        world.data.mkdir()
        pq.write_table(
            rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows)), world.data / "pairs.parquet"
        )
        return world.train(*more)

    return Case(f"table-{name}", make, says)


def files(name: str, held: dict[str, bytes], *says: str, more: Sequence[str] = ()) -> Case:
    """A folder of these files as the data."""

    def make(world: World) -> list[object]:
        for place, content in held.items():
            file = world.data / place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return world.train(*more)

    return Case(f"files-{name}", make, says)


def recipe(name: str, text: str | bytes, *says: str) -> Case:
    """A recipe's text."""

    def make(world: World) -> list[object]:
        file = world.root / "mine.yaml"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return ["train", file, "--dry-run"]

    return Case(f"recipe-{name}", make, ["mine.yaml", *says])


def key(name: str, override: str, *says: str) -> Case:
    """One key of a recipe that is good otherwise."""

    def make(world: World) -> list[object]:
        make_pairs(world.data, 4)
        return world.train(override.format(root=world.root))

    return Case(f"key-{name}", make, says)


def place(name: str, make: Callable[[World], Sequence[object]], *says: str) -> Case:
    """A place that a command cannot read or write."""
    return Case(f"place-{name}", make, says)


def renamed(row: dict[str, Any], **names: str) -> dict[str, Any]:
    """The row under other names of columns."""
    return {names.get(name, name): value for name, value in row.items()}


def parquet_bytes(*rows: dict[str, Any]) -> bytes:
    """A parquet file of these rows."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink)
    return sink.getvalue().to_pybytes()


WHOLE = parquet_bytes(*({**PAIR, "prompt": f"a cat {n}"} for n in range(99)))
THEIRS = renamed(PAIR, prompt="caption", chosen="win", rejected="lose")
NO_IMAGES = {"prompt": "a cat", "chosen": 1, "rejected": 2}

TABLES = [
    table("column-missing", [{"prompt": "a", "chosen": picture(1)}], "data: missing: rejected",
          "found the columns prompt, chosen", "pairs needs prompt, chosen, rejected", more=["data.format=pairs"]),
    table("columns-renamed", [THEIRS], "found the columns caption, win, lose",
          "'data.columns={prompt: caption, chosen: win, rejected: lose}'"),
    table("columns-unknown", [{"a": 1, "b": 2}], "found the columns a, b", "pairs needs", "pick_a_pic needs"),
    table("map-to-no-column", [THEIRS], "data.columns.prompt", "no column 'captoin'; did you mean 'caption'?",
          more=["data.columns={prompt: captoin, chosen: win, rejected: lose}"]),
    table("map-of-no-name-of-ours", [THEIRS], "data.columns: unknown name 'promt'", "'prompt'",
          more=["data.columns={promt: caption, chosen: win, rejected: lose}"]),
    table("no-rows", pa.table({"prompt": pa.array([], pa.string()), "chosen": pa.array([], pa.binary()),
                               "rejected": pa.array([], pa.binary())}), "no rows in it"),
    table("no-columns", pa.table({}), "no rows in it"),
    table("images-are-numbers", [NO_IMAGES] * 2, "no training pairs are left of 2 rows", "row 0", "'chosen' holds int"),
    table("column-twice", pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array([b"x"]), pa.array([b"y"])],
                                               names=["prompt", "prompt", "chosen", "rejected"]),
          "pairs.parquet: the column 'prompt' stands twice", "rename or drop one"),
    table("ties-only", [{**PICK_A_PIC, "label_0": 0.5, "label_1": 0.5}] * 3,
          "no training pairs are left of 3 rows (3 ties)"),
]  # fmt: skip

FILES = [
    files("empty-folder", {".hidden": b""}, "no preference data in it", "found: .hidden", ".parquet, .jsonl or .csv"),
    files("empty-parquet", {"a.parquet": b""}, "a.parquet: not a readable parquet file"),
    files("text-named-parquet", {"a.parquet": b"PAR1, it says"}, "a.parquet: not a readable parquet file"),
    files("cut-parquet", {"a.parquet": WHOLE[: len(WHOLE) // 2]}, "a.parquet: not a readable parquet file"),
    files("damaged-parquet", {"a.parquet": WHOLE[:10] + b"\xff" * 40 + WHOLE[50:]}, "a.parquet", "damaged after row 0"),
    files("empty-jsonl", {"a.jsonl": b"\n\n"}, "no rows in it (JSON lines)"),
    files("utf16-jsonl", {"a.jsonl": '{"prompt": "a"}'.encode("utf-16")}, "a.jsonl, line 1: not UTF-8 (it is UTF-16",
          "save the file as UTF-8"),
    files("json-cut", {"a.json": b'[{"prompt": "a"}, {'}, "a.json: not JSON"),
    files("csv-header-only", {"a.csv": b"prompt,chosen,rejected\n"}, "no rows in it"),
    files("lone-side", {"w/a.png": picture(1), "w/a.txt": b"a"}, "images in w/ but no folder l/ beside it"),
    files("no-names-in-common", {"w/a.png": picture(1), "l/b.png": picture(2)}, "no image of", "has one of the same name"),
    files("no-such-split", {"train.jsonl": b'{"prompt": "a"}'}, "data.split: no file", "split 'tune'", "train.jsonl",
          more=["data.split=tune"]),
]  # fmt: skip

HEAD = "model: {path: a/b, lora: {rank: 4}}\ndata: {path: pairs}\noutput: run\n"
RECIPES = [
    recipe("empty", "", "expected sections (model, data, ...)", "got NoneType"),
    recipe("no-sections", "- a\n- b\n", "expected sections (model, data, ...)", "got list"),
    recipe("not-yaml", "model: {path: a\n", "not valid YAML", "line 2"),
    recipe("not-utf8", b"output: caf\xe9\n", "not UTF-8", "save it as UTF-8"),
    recipe("nul", "output: a\0b\n", "not valid YAML"),
    recipe("unknown-key", HEAD + "train: {stepps: 5}\n", "train.stepps: unknown key; did you mean 'steps'?"),
    recipe("unknown-section", HEAD + "trian: {steps: 5}\n", "trian: unknown key; did you mean 'train'?"),
    recipe("missing-section", "data: {path: pairs}\noutput: run\n", "model: missing"),
    recipe("list-for-a-section", HEAD + "train: [5]\n", "train: ", "[5]"),
    recipe("text-for-a-section", HEAD + "optim: fast\n", "optim: ", "'fast'"),
    recipe("key-twice", HEAD + "output: other\n", "line 4", "'output' stands twice"),
    recipe("key-a-list", HEAD + "? [a, b]\n: 1\n", "line 4"),
    recipe("nested-too-deep", HEAD + "train: " + "[" * 5000 + "\n", "nested"),
    recipe("alias-of-itself", "model: &a\n  path: *a\n", "model"),
    recipe("python-object", HEAD + "train: !!python/object:os.system {}\n", "not valid YAML"),
]  # fmt: skip

KEYS = [
    key("text-for-a-number", "train.steps=many", "train.steps", "got 'many'"),
    key("bool-for-a-number", "train.steps=true", "train.steps", "got True"),
    key("number-for-a-text", "data.path=5", "data.path", "got 5"),
    key("nan-learning-rate", "optim.lr=.nan", "optim.lr", "finite number"),
    key("infinite-learning-rate", "optim.lr=.inf", "optim.lr", "finite number"),
    key("negative-steps", "train.steps=-5", "train.steps", "greater than 0, got -5"),
    key("batch-not-divisible", "train.micro_batch_size=3", "train.micro_batch_size: 3 does not divide"),
    key("unknown-loss", "method.loss=dpoo", "loss", "did you mean 'dpo'", ),
    key("unknown-reward", "evaluation.rewards=[shapez]", "reward", "shapez"),
    key("unknown-format", "data.format=parquets", "data.format", "got 'parquets'"),
    key("unknown-option-of-a-loss", "method.betta=5", "betta"),
    key("no-value", "train.steps", "override 'train.steps': expected section.key=value"),
    key("resolution-that-does-not-fit", "data.resolution=13", "data.resolution: 13 does not fit", "multiple of"),
    key("no-output", "output=", "output: input should be a valid string, got None"),
    key("empty-output", "output=''", "output: is empty; name a folder with output=FOLDER"),
    key("empty-data", "data.path=' '", "data.path: is empty; name a folder"),
    key("prompts-missing", "evaluation.prompts={root}/gone.txt", "prompts: no file", "gone.txt", "a prompt a line"),
    key("no-such-data", "data.path={root}/gone", "data.path", "gone: no such file or folder"),
    key("cache-is-a-file", "data.cache={root}/recipe.yaml", "data.cache", "recipe.yaml: is a file"),
    key("output-is-a-file", "output={root}/recipe.yaml", "output", "recipe.yaml: is a file", "output=FOLDER"),
    key("output-below-a-file", "output={root}/recipe.yaml/run", "output", "recipe.yaml is a file", "output=FOLDER"),
    key("no-permission", "output={root}/closed/run", "output", "no permission to write in", "closed", "output=FOLDER"),
    key("resume-of-nothing", "--resume", "--resume: no checkpoint in", "start without --resume"),
]  # fmt: skip
