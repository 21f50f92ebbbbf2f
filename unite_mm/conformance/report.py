"""What checks report: findings in words, and how each check ended."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from unite_mm.errors import UniteError

OURS = Path(__file__).parents[1]
"""Our own package: its frames say nothing to the author of a plugin."""


@dataclass(frozen=True)
class Finding:
    """One mistake of a plugin.

    Attributes:
        message: what is wrong and where, in one line.
        hint: what to change.
        traceback: the plugin's own, where its code raised.
    """

    message: str
    hint: str = ""
    traceback: str = ""


@dataclass(frozen=True)
class Outcome:
    """How one check ended.

    Attributes:
        name: of the check.
        demand: what the contract demands, in one line.
        findings: the mistakes; none: passed, or not run.
        needs: the earlier check whose findings this one waits for; None: it ran.
    """

    name: str
    demand: str
    findings: tuple[Finding, ...] = ()
    needs: str | None = None


def demand_of(check: Callable[..., Iterator[Finding]]) -> str:
    """What a check demands, in one line: the first of its docstring."""
    return (check.__doc__ or "").partition("\n")[0]


class Blocked(Exception):
    """A check needs something that an earlier one has found wrong.

    Args:
        check: the earlier one.
    """

    def __init__(self, check: str) -> None:
        super().__init__(check)
        self.check = check


@contextmanager
def calling(what: str, hint: str = "", *, called: str = "", refused: str = "", invalid: str = "") -> Iterator[None]:
    """Turn whatever third-party code raises into a message that names the call.

    Args:
        what: the call, such as `open_data()`.
        hint: how to fix it, whatever was raised, where the error itself does not say so.
        called: instead, where the arguments do not fit.
        refused: instead, where the plugin refuses with a message of its own.
        invalid: instead, where an object of ours is filled in wrongly.

    Raises:
        UniteError: the call failed; the plugin's error is its cause.
    """
    try:
        yield
    except Blocked:
        raise
    except UniteError as error:
        raise UniteError(f"{what}: {error.message}", error.hint or refused or hint) from error
    except ValidationError as error:
        raise UniteError(f"{what}: {_invalid(error)}", invalid or hint) from error
    except (Exception, SystemExit) as error:  # third-party code may raise anything
        fitting = called if isinstance(error, TypeError) else ""
        raise UniteError(f"{what} raised {_described(error)}", fitting or hint) from error


@contextmanager
def importing(entry: str, folder: Path) -> Iterator[None]:
    """Turn what importing a plugin raises into a message for its author.

    Raises:
        UniteError: the import failed; the plugin's error is its cause.
    """
    try:
        yield
    except UniteError as error:
        cause = error.__cause__
        if cause is None:
            raise
        if isinstance(cause, SyntaxError):
            raise UniteError(f"{entry}: {syntax_error(cause)}", "correct this line, or the one before it") from cause
        if isinstance(cause, ImportError):
            hint = "install it and name it among the dependencies in pyproject.toml, or correct the import"
        else:
            hint = f"correct what runs when a module of {folder.name} is imported"
        raise UniteError(error.message, hint) from cause


def syntax_error(error: SyntaxError) -> str:
    """Where a file is no Python, and why."""
    return f"{error.filename}, line {error.lineno}: {error.msg}: {(error.text or '').strip()[:80]!r}"


def as_finding(error: Exception) -> Finding:
    """The finding of an error that a check met."""
    if isinstance(error, UniteError):
        return Finding(" ".join(error.message.split()), " ".join(error.hint.split()), own_traceback(error))
    return Finding(_described(error), "", own_traceback(error))


def own_traceback(error: BaseException) -> str:
    """The traceback of the plugin's error with what caused it, from the plugin's first frame on; empty: it has none."""
    root = error
    while isinstance(root, UniteError) and root.__cause__ is not None:
        root = root.__cause__
    shown = traceback.TracebackException.from_exception(root)
    first = next((index for index, frame in enumerate(shown.stack) if not _is_machinery(frame.filename)), None)
    if first is None or isinstance(root, UniteError):
        return ""
    shown.stack[:] = shown.stack[first:]
    return "".join(shown.format()).rstrip()


def _is_machinery(file: str) -> bool:
    """Whether a frame lies between the command and the plugin's code: ours, or of the import system or a library."""
    path = Path(file)
    return file.startswith("<frozen importlib") or OURS in path.parents or bool(_LIBRARIES & set(path.parts))


_LIBRARIES = {"importlib", "pydantic", "torch"}


def _described(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _invalid(error: ValidationError) -> str:
    """The first problem of an object of ours that a plugin has filled in wrongly."""
    detail = error.errors(include_url=False)[0]
    where = ".".join([error.title, *map(str, detail["loc"])])
    words = {"missing": "is missing", "extra_forbidden": "is no such field"}.get(detail["type"])
    return f"{where} {words}" if words else f"{where}: {detail['msg']}"
