"""The rules of the code base, read off the source: who may import whom, how long things are, what is never written."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import rewards
from mmpo.recipe_files import load_recipe, shipped_recipes

ROOT = Path(__file__).parent.parent
PACKAGES = ("mmpo", "rewards", "pipelines")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
BINARY = {".safetensors", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".parquet", ".pdf", ".pyc"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def short(file: Path) -> str:
    """The file's path from the root, for messages."""
    return file.relative_to(ROOT).as_posix()


def module_name(file: Path) -> str:
    """The dotted name under which a file is imported."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree_of(file: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(file.read_text(encoding="utf-8"), short(file))


def imports(node: ast.AST, file: Path) -> Iterator[str]:
    """Dotted names that a statement imports; `from a import b` gives a.b, since b may be a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        package = module_name(file).split(".")
        if node.level:
            package = package[: len(package) - node.level + (file.name == "__init__.py")]
            base = ".".join([*package, *([node.module] if node.module else [])])
        else:
            base = node.module or ""
        yield from (f"{base}.{alias.name}" for alias in node.names)


def all_imports(file: Path) -> set[str]:
    """What a file imports anywhere, also inside functions."""
    return {name for node in ast.walk(tree_of(file)) for name in imports(node, file)}


def functions() -> Iterator[tuple[Path, Function]]:
    """Every function and method of the packages."""
    for file in FILES:
        for node in ast.walk(tree_of(file)):
            if isinstance(node, Function):
                yield file, node


@cache
def classes() -> dict[str, list[ast.ClassDef]]:
    """Every class of the packages, by name; a name may stand in several modules."""
    found: dict[str, list[ast.ClassDef]] = {}
    for file in FILES:
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(node)
    return found


@cache
def text_files() -> dict[Path, str]:
    """The text files of the repository: those that git knows or would add; without git, those of the source."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        files = [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        folders = (*PACKAGES, "configs", "tests", "scripts", "docs")
        files = [*ROOT.glob("*.*"), *(file for folder in folders for file in (ROOT / folder).rglob("*"))]
    kept = [file for file in files if file.is_file() and not file.is_symlink() and file.suffix.lower() not in BINARY]
    return {file: file.read_text(encoding="utf-8", errors="replace") for file in kept}


def lines_with(pattern: str) -> list[str]:
    """Places in the repository's text where a pattern stands."""
    search = re.compile(pattern).search
    return [
        f"{short(file)}:{number}: {line.strip()[:80]}"
        for file, text in text_files().items()
        for number, line in enumerate(text.splitlines(), 1)
        if search(line)
    ]


def test_there_is_something_to_look_at() -> None:
    """Every rule below holds of an empty list."""
    assert len(FILES) > 40
    assert len(list(functions())) > 150
    assert "Recipe" in classes()
    assert ROOT / "pyproject.toml" in text_files()


# --------------------------------------------------------------------------------------------------------- imports

NEVER = [
    ("mmpo", ("rewards", "pipelines", "tests", "scripts")),
    ("rewards", ("pipelines", "tests", "scripts")),
    ("pipelines", ("tests", "scripts")),
    ("mmpo.losses", ("mmpo.adapters", "mmpo.data", "mmpo.models", "mmpo.training")),
    ("mmpo.adapters", ("mmpo.losses", "mmpo.data", "mmpo.training")),
    ("mmpo.data", ("mmpo.losses", "mmpo.adapters", "mmpo.training")),
    ("mmpo.training", ("mmpo.adapters", "mmpo.data", "mmpo.models")),
    ("mmpo.records", ("mmpo",)),
    ("mmpo.contracts", ("mmpo",)),
]


def within(name: str, package: str) -> bool:
    """Whether a dotted name is a package or something in it."""
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize(("package", "forbidden"), NEVER, ids=[package for package, _ in NEVER])
def test_imports_follow_the_arrows(package: str, forbidden: tuple[str, ...]) -> None:
    looked_at = [file for file in FILES if within(module_name(file), package)]
    assert looked_at
    wrong = [
        f"{short(file)} imports {name}"
        for file in looked_at
        for name in all_imports(file)
        if any(within(name, other) for other in forbidden)
    ]
    assert not wrong


def test_training_knows_losses_by_their_types_and_diagnostics_only() -> None:
    """A loss reaches the loop as a function; the loop that named one would be a loop for that one."""
    allowed = ("mmpo.losses.types", "mmpo.losses.diagnostics", "mmpo.losses.baselines")
    for file in FILES:
        if within(module_name(file), "mmpo.training"):
            used = {name for name in all_imports(file) if within(name, "mmpo.losses")}
            assert all(any(within(name, other) for other in allowed) for name in used), short(file)


def test_only_build_names_concrete_adapters_and_losses() -> None:
    users = {
        short(file)
        for file in FILES
        if within(module_name(file), "pipelines")
        for name in all_imports(file)
        if within(name, "mmpo.adapters") or within(name, "mmpo.losses")
    }
    assert users == {"pipelines/build.py"}


def test_pipelines_load_rewards_by_name() -> None:
    """A pipeline that imported one reward's module would work with that one only."""
    concrete = [place.partition(":")[0] for place in rewards.names().values()]
    for file in FILES:
        if within(module_name(file), "pipelines"):
            used = {name for name in all_imports(file) if any(within(name, module) for module in concrete)}
            assert not used, short(file)


def torch_free() -> list[str]:
    """Modules that must be importable in no time, because the command line needs them before anything is valid."""
    light = ["recipe", "recipe_files", "recipe_comments", "recipe_schema", "records", "loss_table", "suggest", "files"]
    light += ["loss_entry", "loss_names", "citation"]
    programs = ["cli", "cli_runs", "cli_tools", "data_cli", "doctor", "environment", "flags", "flag_table"]
    programs += ["flag_meanings", "init", "launch", "listing", "presets", "prompts"]
    programs += ["reward_listing", "text_columns", "cli_vote"]
    return [*(f"mmpo.{name}" for name in [*light, "beta", "citations"]), *(f"pipelines.{name}" for name in programs)]


@pytest.mark.parametrize("name", torch_free())
def test_light_modules_import_no_torch_at_their_top(name: str) -> None:
    file = ROOT / Path(*name.split(".")).with_suffix(".py")
    heavy = {"torch", "diffusers", "transformers", "accelerate", "datasets", "peft", "numpy", "PIL", "pyarrow"}
    top = {imported.split(".")[0] for node in tree_of(file).body for imported in imports(node, file)}
    assert not top & heavy


def test_light_modules_load_no_torch_by_way_of_others_either() -> None:
    program = f"import sys, {', '.join(torch_free())}\nprint({{'torch', 'numpy', 'datasets'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"


def test_losses_need_torch_and_themselves_only() -> None:
    for file in (ROOT / "mmpo" / "losses").glob("*.py"):
        known = {"torch", "mmpo", "__future__", *sys.stdlib_module_names}
        assert {name.split(".")[0] for name in all_imports(file)} <= known, short(file)


# --------------------------------------------------------------------------------------------------------- budgets


def lines_in(file: Path) -> int:
    """Length of a file."""
    return len(file.read_text(encoding="utf-8").splitlines())


def test_files_are_short() -> None:
    lengths = {short(file): lines_in(file) for file in FILES}
    assert not {name: length for name, length in lengths.items() if length > 400}
    assert statistics.median(lengths.values()) <= 150


def test_tests_and_scripts_are_short_too() -> None:
    files = [file for folder in ("tests", "scripts") for file in (ROOT / folder).rglob("*.py")]
    assert files
    assert not {short(file): lines_in(file) for file in files if lines_in(file) > 400}


def test_functions_are_short() -> None:
    lengths = sorted((node.end_lineno or 0) - node.lineno + 1 for _, node in functions())
    assert lengths[int(0.95 * len(lengths))] <= 60


def test_the_readme_is_short() -> None:
    assert lines_in(ROOT / "README.md") <= 250


# ----------------------------------------------------------------------------------------------- docstrings, classes


def public(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Public functions and classes at the top, and the public methods of public classes."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{prefix}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}.{node.name}")


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_and_public_things_have_docstrings(package: str) -> None:
    bare = []
    for file in FILES:
        if file.relative_to(ROOT).parts[0] != package:
            continue
        if not ast.get_docstring(tree_of(file)):
            bare.append(short(file))
        bare += [name for name, node in public(tree_of(file).body, module_name(file)) if not ast.get_docstring(node)]
    assert not bare


def base_names(node: ast.ClassDef) -> list[str]:
    """Last names of a class's bases: `nn.Module` gives Module, `Generic[T]` gives Generic."""
    names = []
    for base in node.bases:
        bare = base.value if isinstance(base, ast.Subscript) else base
        names.append(bare.attr if isinstance(bare, ast.Attribute) else ast.unparse(bare))
    return names


def is_abstract(node: ast.ClassDef) -> bool:
    """Protocols, the strict section of a recipe, what data sections begin with, and exceptions may have children."""
    bases = base_names(node)
    exception = any(base.endswith(("Error", "Exception", "Interrupt")) for base in bases)
    return node.name in ("_Section", "_Place") or "Protocol" in bases or exception


def test_no_class_inherits_from_a_concrete_class_of_ours() -> None:
    wrong = [
        f"{name}({base})"
        for name, nodes in classes().items()
        for node in nodes
        for base in base_names(node)
        if not all(is_abstract(parent) for parent in classes().get(base, []))
    ]
    assert not wrong


def test_no_decorator_registries_and_no_work_at_import() -> None:
    """Tables are literal: a module that is imported changes nothing but its own names."""
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.ClassDef, Function, ast.If, ast.Try)
    for file in FILES:
        for node in tree_of(file).body:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue  # a docstring
            if isinstance(node, ast.Expr) and file.name == "recipe_files.py":
                assert "add_implicit_resolver" in ast.unparse(node), "only the private YAML loader is set up"
                continue
            assert isinstance(node, allowed), f"{short(file)}:{node.lineno}"
    decorators = [ast.unparse(decorator) for _, node in functions() for decorator in node.decorator_list]
    assert not [name for name in decorators if "regist" in name.lower()]


# ------------------------------------------------------------------------------------------ what is never written


def test_no_unfinished_code() -> None:
    words = "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error"])
    assert not lines_with(rf"\b({words})\b")


def test_no_package_registry_and_no_path_of_one_machine() -> None:
    hosts = [r"py" + r"pi\.org", r"python" + r"hosted\.org", r"download\.py" + r"torch\.org", r"index" + r"[-_]url"]
    assert not lines_with("|".join(hosts))
    assert not lines_with(
        r"(?<![\w.~$}/])/(" + "|".join(["wo" + "rk", "ro" + "ot", "ho" + "me", "Us" + "ers"]) + r")\b(/|\"|'|\s|$)"
    )


def test_no_pickles_are_loaded_and_no_remote_code_is_trusted() -> None:
    assert not lines_with(r"weights_only\s*=\s*Fal" + r"se|trust_remote_code\s*=\s*Tr" + r"ue|yaml\.unsafe_" + r"load")
    for file in FILES:
        assert not {name.split(".")[0] for name in all_imports(file)} & {"pickle", "dill", "cloudpickle"}, short(file)


# ------------------------------------------------------------------------------------------------- names of things


def dependencies() -> set[str]:
    """Names under which what we depend on is imported, and well-known ones that a user may have."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
    named = {re.split(r"[^\w-]", line)[0].lower().replace("-", "_") for names in lists for line in names}
    known = {"datasets", "evaluate", "clip", "open_clip", "PIL", "yaml", "trl", "ray", "wandb", "hpsv2", "hpsv3"}
    return named | known | {"ImageReward", "imagereward", "tokenizers", "faiss", "deepspeed", "bitsandbytes", "lpips"}


def test_no_file_of_rewards_or_pipelines_is_named_like_a_dependency() -> None:
    """Run as scripts, their folder comes first on the path and would hide the package of that name."""
    files = [file for file in FILES if file.relative_to(ROOT).parts[0] in ("rewards", "pipelines")]
    wrong = [short(file) for file in files if file.stem in dependencies() | set(sys.stdlib_module_names) - {"__init__"}]
    assert not wrong


def test_recipes_are_named_alike_and_cannot_be_taken_for_something_else() -> None:
    """A recipe is found by name only where no file or folder of that name is nearer."""
    names = list(shipped_recipes())
    assert names
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) for name in names)
    assert len({name.replace("_", "") for name in names}) == len(names)
    assert {file.suffix for file in (ROOT / "configs").iterdir()} == {".yaml"}
    assert not set(names) & {path.name for path in ROOT.iterdir()}


def test_recipes_do_not_write_into_each_others_folders() -> None:
    recipes = {name: load_recipe(name) for name in shipped_recipes()}
    outputs = [recipe.output for recipe in recipes.values()]
    assert len(set(outputs)) == len(outputs)
    assert not set(outputs) & {recipe.data.path for recipe in recipes.values()}
    made = {name: recipe for name, recipe in recipes.items() if recipe.data.make is not None}
    for name, recipe in made.items():
        for other, second in made.items():
            if recipe.data.path == second.data.path:
                same = (recipe.data.make, recipe.model.path) == (second.data.make, second.model.path)
                assert same, f"{name} and {other} make different pairs in {recipe.data.path}"


def test_everything_of_the_packages_is_in_the_wheel() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(wheel["packages"]) == set(PACKAGES)
    assert wheel["force-include"] == {"configs": "mmpo/configs"}
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").is_file()
    folders = {file.parent for file in FILES}
    assert not [short(folder) for folder in folders if not (folder / "__init__.py").is_file()]
