"""The table that describes the losses, and what importing them loads."""

from __future__ import annotations

import inspect
import subprocess
import sys

from loss_cases import every_loss

from mmpo.loss_table import LOSS_TABLE
from mmpo.losses import LOSSES


def test_table_and_functions_have_the_same_names() -> None:
    """A recipe can name exactly what can be computed."""
    assert LOSS_TABLE.keys() == LOSSES.keys()


@every_loss
def test_table_options_are_the_keyword_only_parameters(name: str) -> None:
    """`loss(policy, reference, *, ...)`, and the table knows each option, with defaults the function accepts."""
    parameters = inspect.signature(LOSSES[name]).parameters
    assert list(parameters)[:2] == ["policy", "reference"]
    rest = {key: p for key, p in parameters.items() if key not in ("policy", "reference")}
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in rest.values())
    entry = LOSS_TABLE[name]
    of_the_family = {"scores", "mask"} if entry.family == "list" else set()
    assert rest.keys() == entry.options.keys() | entry.extra.keys() | of_the_family
    for option in entry.options.values():
        assert not option.fault(option.default)
        assert not option.fault(option.surrogate)


def test_losses_load_torch_and_nothing_else() -> None:
    """The core can be used in any trainer: beyond what `import torch` brings, only mmpo and the standard library."""
    program = (
        "import sys, torch, torch.nn.functional\n"
        "before = {name.split('.')[0] for name in sys.modules}\n"
        "import mmpo.losses, mmpo.losses.diagnostics\n"
        "after = {name.split('.')[0] for name in sys.modules}\n"
        "new = after - before - set(sys.stdlib_module_names) - {'mmpo'}\n"
        "assert not new, new\n"
        "heavy = {'diffusers', 'transformers', 'peft', 'accelerate', 'pydantic', 'yaml', 'rewards', 'pipelines'}\n"
        "assert not heavy & after, heavy & after\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_recipe_loads_no_torch() -> None:
    """A recipe is checked, and `--help` printed, before anything heavy is imported."""
    program = (
        "import sys, mmpo.recipe, mmpo.loss_table, mmpo.beta\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'peft', 'accelerate', 'numpy', 'rewards', 'pipelines'}\n"
        "assert not heavy & {name.split('.')[0] for name in sys.modules}\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
