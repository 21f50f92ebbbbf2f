"""Errors that a user can fix: what is wrong, where, and how to fix it, in a line or two."""


class UniteError(Exception):
    """A failure with a message for the user; the command line prints it and exits with `exit_code`.

    Args:
        message: what is wrong and where.
        hint: how to fix it.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(UniteError):
    """Wrong usage or configuration, unreadable input: nothing was started (exit code 2)."""

    exit_code = 2


class TrainingError(UniteError):
    """A run that failed while training; the last good checkpoint stays (exit code 1)."""


class UniteWarning(UserWarning):
    """Something that a user must know though the work goes on; the command line prints it on standard error."""
