"""Uploading a run to the Hugging Face hub: weights, card, samples, recipe and scores, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pipelines.report_places import known_paths, public_recipe
from pipelines.report_private import Known, public, public_config, public_safetensors
from pipelines.report_run import GRID, LORA, RECIPE, RESULT, SUMMARY, RunFiles, VlmRun

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
LOGIN = "run `hf auth login`, or set HF_TOKEN"
AT_ONCE = 50
"""Files of one commit; the hub refuses commits that take too long."""
CONFIGS = ("config.json", "_config.json", "model_index.json", "generation_config.json")


def check_name(name: str) -> None:
    """Refuses what is no USER/NAME of the hub.

    Raises:
        ValueError: says what is expected.
    """
    wrong = not NAME.fullmatch(name) or "--" in name or ".." in name or name.endswith((".git", ".ipynb", "-", "."))
    if wrong or len(name) > 96:
        raise ValueError(f"push: '{name}' is no name on the hub; expected USER/NAME, such as alice/my-lora")


def upload(run: RunFiles, card: str, name: str, *, private: bool, api: Any = None) -> str:
    """Uploads a run in one commit and returns the address of its page.

    Args:
        run: with weights.
        card: README.md.
        name, private, api: as `commit`.
    Raises:
        ValueError: as `commit`; or the run has no weights.
    """
    files = public_files(run, card)
    return commit(files, name, private=private, api=api, message="Weights, card and scores by mmpo")


def commit(
    files: Iterable[tuple[str, bytes | Path]],
    name: str,
    *,
    private: bool,
    api: Any = None,
    kind: Literal["model", "dataset"] = "model",
    message: str,
) -> str:
    """Uploads files to a repository, which is made where it is missing, and returns the address of its page.

    Args:
        files: (place in the repository, content), in one commit, or in several of `AT_ONCE` in this order.
        name: USER/NAME, checked.
        private: of a repository that this makes. One that is there and public is refused where this is true.
        api: a `huggingface_hub.HfApi`; default: one with the token of the environment or of `hf auth login`.
    Raises:
        ValueError: not logged in, offline, not allowed, or the hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    unreachable: Any = HfHubHTTPError.__bases__[0]  # of whichever HTTP client this huggingface_hub is built on
    if api is None and constants.is_offline_mode():
        raise ValueError("push: HF_HUB_OFFLINE is set, so nothing can be uploaded; unset it")
    api = HfApi() if api is None else api
    operations = [CommitOperationAdd(place, content) for place, content in files]
    of_kind = {} if kind == "model" else {"repo_type": kind}
    try:
        api.whoami()
        address = api.create_repo(name, private=private, exist_ok=True, **of_kind)
        known = api.model_info if kind == "model" else api.dataset_info
        if private and not known(name).private:
            raise ValueError(f"push: {name} is there already and public; choose another name, or push it as public")
        for start in range(0, len(operations), AT_ONCE):
            api.create_commit(name, operations[start : start + AT_ONCE], commit_message=message, **of_kind)
    except LocalTokenNotFoundError:
        raise ValueError(f"push: not logged in at the hub; {LOGIN}") from None
    except OfflineModeIsEnabled:
        raise ValueError("push: HF_HUB_OFFLINE is set, so nothing can be uploaded; unset it") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        reason = (
            f"your token may not write to it; {LOGIN} with a token that may" if status in (401, 403) else str(error)
        )
        raise ValueError(f"push: the hub refused {name} ({status}): {' '.join(reason.split())}") from None
    except (unreachable, ConnectionError) as error:
        raise ValueError(f"push: the hub cannot be reached ({type(error).__name__}); try again when online") from None
    return str(address)


def finished_weights(run: RunFiles | VlmRun) -> Path:
    """The weights of a run that is to be uploaded.

    Raises:
        ValueError: the run has none yet.
    """
    if run.summary is None or run.weights is None:
        raise ValueError(
            f"push: {run.folder} has no finished weights yet; finish it with `mmpo train {run.folder} --resume`"
        )
    return run.weights


def public_files(run: RunFiles, card: str) -> Iterator[tuple[str, bytes | Path]]:
    """(place in the repository, content) of what is uploaded; a pipeline goes to the top, as `from_pretrained` wants.

    Raises:
        ValueError: the run has no weights yet.
    """
    weights = finished_weights(run)
    known = known_paths(run)
    yield "README.md", card.encode()
    if weights.is_file():
        yield LORA, public_safetensors(weights.read_bytes(), known)
    else:
        yield from folder_files(weights, known)
    yield RECIPE, public_recipe(run).encode()
    yield SUMMARY, public_json(run.summary, known)
    if run.evaluation is not None:
        yield RESULT, public_json(run.evaluation, known)
    if run.grid is not None:
        yield GRID, run.grid


def folder_files(folder: Path, known: Known) -> Iterator[tuple[str, bytes | Path]]:
    """(place in the repository, content) of a folder of weights, whose configs name no path of this machine."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        place = file.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in file.relative_to(folder).parts):
            continue
        if file.name == "mmpo.json":
            yield place, public_json(json.loads(file.read_text(encoding="utf-8")), known)
        else:
            yield place, public_config(file.read_bytes(), known) if file.name.endswith(CONFIGS) else file


def public_json(value: Any, known: Known) -> bytes:
    """JSON in which no string holds a path of this machine."""
    return (json.dumps(public(value, known), indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
