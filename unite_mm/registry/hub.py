"""Models of a Hugging Face hub: `hf:ORG/NAME[@REVISION]` fetched into the hub's own cache, and exports pushed to it.

Only safetensors, JSON and Markdown are fetched. `huggingface_hub`, the extra `hub`, is imported where it is used.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from unite_mm.errors import UniteError, UsageError

SCHEME = "hf:"
PATTERNS = ["*.safetensors", "*.json", "*.md"]
"""The files that a model consists of."""

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
"""Suffixes of files that may run code when they are read."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REVISION = re.compile(r"[\w./-]+")


@dataclass(frozen=True)
class HubModel:
    """A repository of models, and which of its commits.

    Attributes:
        name: ORG/NAME.
        revision: branch, tag or commit; None: the main branch.
    """

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}{f'@{self.revision}' if self.revision else ''}"


def is_hub_name(named: object) -> bool:
    """Whether a text names a model of a hub."""
    return str(named).startswith(SCHEME)


def parse_hub_name(named: str) -> HubModel:
    """The repository that `hf:ORG/NAME[@REVISION]` names.

    Raises:
        UsageError: it is not of this form.
    """
    name, at, revision = named.removeprefix(SCHEME).partition("@")
    if not _NAME.fullmatch(name) or (at and not _REVISION.fullmatch(revision)):
        raise UsageError(f"{named}: no name of a model on a hub", "write hf:ORG/NAME, or hf:ORG/NAME@REVISION")
    return HubModel(name, revision or None)


def fetch(named: str) -> Path:
    """The folder of a hub's model in the cache, fetched where it is not there or the hub has a newer commit.

    Without a network, or with HF_HUB_OFFLINE=1, what was fetched before is used.

    Raises:
        UsageError: the name is of another form, there is no such model or revision, it is not open to this user, or it
            holds a pickle.
        UniteError: the hub does not answer, and nothing was fetched before.
    """
    model = parse_hub_name(named)
    library = _library(str(model))
    from huggingface_hub import errors

    try:
        with _explained(model):
            found = library.HfApi().model_info(model.name, revision=model.revision)
            _refuse_pickles(model, [entry.rfilename for entry in found.siblings or ()])
    except _Unreachable as reason:
        return _cached(library, model, str(reason))
    try:
        with _explained(model):
            return Path(library.snapshot_download(model.name, revision=model.revision, allow_patterns=PATTERNS))
    except errors.LocalEntryNotFoundError as error:
        raise UniteError(f"{model} cannot be fetched: {_first_line(error)}", "try again") from error
    except _Unreachable as reason:
        raise UniteError(f"{model} cannot be fetched: {reason}", "try again") from reason


def push(folder: Path, name: str, *, private: bool = False, revision: str | None = None) -> str:
    """Copy the files of an exported folder to a repository of a hub, which is made if there is none.

    Files of the kinds that an export has (`PATTERNS`) and that this one lacks are removed there.

    Args:
        folder: an export, which the caller has checked.
        name: ORG/NAME.
        private: whether a new repository is seen by its owners alone.
        revision: branch to write to, made if there is none; None: the main branch.

    Returns:
        The address of the commit.

    Raises:
        UsageError: the name is of another form, or this user may not write there.
        UniteError: the hub does not answer.
    """
    model = parse_hub_name(f"{SCHEME}{name}{f'@{revision}' if revision else ''}")
    library = _library("push")
    api = library.HfApi()
    try:
        with _explained(model):
            api.create_repo(model.name, private=private, exist_ok=True)
            if model.revision:
                api.create_branch(model.name, branch=model.revision, exist_ok=True)
            commit = api.upload_folder(
                repo_id=model.name,
                folder_path=folder,
                revision=model.revision,
                allow_patterns=PATTERNS,
                delete_patterns=PATTERNS,
                commit_message="Upload a model of unite-mm",
            )
    except _Unreachable as reason:
        raise UniteError(f"{model} was not pushed: {reason}", "try again when the hub answers") from reason
    return str(commit.commit_url)


class _Unreachable(Exception):
    """The hub does not answer; the text says why."""


@contextmanager
def _explained(model: HubModel) -> Iterator[None]:
    """What the hub refuses, in our terms.

    Raises:
        UsageError: there is no such repository or revision, or this user may not use it.
        _Unreachable: the hub does not answer.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        hint = "ask for access on its page, then log in: hf auth login"
        raise UsageError(f"{model}: its owners decide who may use it", hint) from error
    except errors.RepositoryNotFoundError as error:
        raise UsageError(
            f"{model}: there is no such model, or it is private", "check the name, or log in: hf auth login"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UsageError(f"{model}: the model has no such branch, tag or commit", "check the revision") from error
    except errors.LocalTokenNotFoundError as error:
        raise UsageError(f"{model}: this needs an account", "log in: hf auth login") from error
    except errors.HFValidationError as error:
        raise UsageError(f"{model}: {_first_line(error)}", "write hf:ORG/NAME, or hf:ORG/NAME@REVISION") from error
    except errors.OfflineModeIsEnabled as error:
        raise _Unreachable("HF_HUB_OFFLINE is set") from error
    except errors.LocalEntryNotFoundError:
        raise
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 0)
        if status in (401, 403):
            raise UsageError(
                f"{model}: this user may not do that", "log in with a token that may: hf auth login"
            ) from error
        raise _Unreachable(f"the hub answers {status}" if status else _first_line(error)) from error
    except _connection_errors() as error:
        raise _Unreachable(_first_line(error)) from error


def _connection_errors() -> tuple[type[Exception], ...]:
    """What the library's transport raises where there is no network; which one it is depends on its version."""
    import importlib

    found: list[type[Exception]] = [OSError]
    for name in ("httpx", "httpx2", "requests"):
        if find_spec(name) is not None:
            module: Any = importlib.import_module(name)
            found.append(getattr(module, "HTTPError", None) or module.RequestException)
    return tuple(found)


def _cached(library: Any, model: HubModel, reason: str) -> Path:
    """The folder that was fetched before.

    Raises:
        UniteError: there is none.
        UsageError: it holds a pickle.
    """
    try:
        folder = Path(
            library.snapshot_download(
                model.name, revision=model.revision, local_files_only=True, allow_patterns=PATTERNS
            )
        )
    except (library.errors.LocalEntryNotFoundError, OSError) as error:
        hint = "connect to a network, or name a model that was fetched before"
        raise UniteError(f"{model} cannot be fetched, and was not before: {reason}", hint) from error
    _refuse_pickles(model, [path.relative_to(folder).as_posix() for path in folder.rglob("*")])
    return folder


def _refuse_pickles(model: HubModel, names: Sequence[str]) -> None:
    found = sorted(name for name in names if PurePosixPath(name).suffix.lower() in PICKLES)
    if found:
        raise UsageError(
            f"{model} holds {found[0]!r}, which may run code when it is read; nothing was fetched",
            "ask its owners for an export: safetensors, JSON and Markdown alone",
        )


def _library(what: str) -> Any:
    """`huggingface_hub`.

    Raises:
        UsageError: it is not installed.
    """
    if find_spec("huggingface_hub") is None:
        raise UsageError(f"{what}: hubs need huggingface_hub, which is not installed", 'pip install "unite-mm[hub]"')
    import huggingface_hub
    import huggingface_hub.errors

    return huggingface_hub


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
