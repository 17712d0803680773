"""The errors Isthmus raises on purpose, and the exit code each one ends a command with.

A message is one or two sentences: the thing by name, the value received, what is needed, and the next step.
Anything else that reaches a user is a mistake of ours and keeps its traceback.
"""

DONE = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130
TERMINATED = 143


class IsthmusError(Exception):
    """A failure with a message meant for the user; `exit_code` is what a command ends with."""

    exit_code = FAILED


class InputError(IsthmusError, ValueError):
    """Wrong usage, settings, images or labels: found before work begins."""

    exit_code = USAGE


class DataError(InputError):
    """A data set that cannot be found, read or used."""


class SettingsError(InputError):
    """Settings that are unknown or out of range."""


class RunExistsError(InputError):
    """The output folder holds something already, or is in use."""


class DivergedError(IsthmusError):
    """The loss stopped being finite while training.

    Arguments: step: updates done, counted from 1. learning_rate: the rate used in that update.
    """

    def __init__(self, message: str, *, step: int, learning_rate: float):
        super().__init__(message)
        self.step = step
        self.learning_rate = learning_rate


class TrainingFailedError(IsthmusError):
    """Runs of a sweep failed that what follows cannot do without."""


class StorageError(IsthmusError):
    """Writing failed while running: a full disk, a folder that vanished."""


class TrainedOnWarning(UserWarning):
    """Images being evaluated were also trained on, so the figures flatter the model."""
