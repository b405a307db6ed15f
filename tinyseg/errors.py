"""The errors of tinyseg.  Each says which operation, which value, which rule, and what would be legal."""


from collections.abc import Iterator
from contextlib import contextmanager


class TinysegError(Exception):
    """Base of every error that tinyseg raises on purpose; the command line prints it as one line."""


class ShapeError(TinysegError, ValueError):
    """Sizes that do not fit together."""


class ArgumentError(TinysegError, ValueError):
    """A value outside what the operation takes."""


class DTypeError(TinysegError, TypeError):
    """An array of a type that the operation does not take."""


class GraphError(TinysegError, RuntimeError):
    """A backward pass that cannot be right: a freed graph, a changed array, a missing cotangent."""


class DataError(TinysegError, ValueError):
    """A file that is missing, broken, or not what it should be.  The text starts with the file's path."""


class KernelError(TinysegError, ValueError):
    """Somebody's kernel that cannot be called: it does not import, or takes other arguments.

    On the command line it ends with status 1, as a kernel that is wrong: the request was sound, the kernel is not.
    """

    def __init__(self, fact: str, advice: str = ""):
        super().__init__(fact, advice)
        self.fact, self.advice = fact, advice

    def __str__(self) -> str:
        return f"{self.fact}. {self.advice}" if self.advice else self.fact


class CheckpointError(DataError):
    """A checkpoint that is corrupt, foreign, or of another net."""


class TrainingError(TinysegError, RuntimeError):
    """A run that cannot go on: a loss that is not finite, a run folder that cannot be written."""


class Interrupted(TrainingError):
    """A run that was asked to stop (Ctrl-C, SIGTERM) and has saved itself."""


@contextmanager
def about(subject: str, inside: str = "") -> Iterator[None]:
    """Put `subject`, an operation or a file, before an error that does not name it yet.

    inside    its name further in, which gives way: to kernels a transposed convolution is a `conv2d_input_grad`
    """
    try:
        yield
    except TinysegError as error:
        if str(error).startswith(f"{subject}:"):
            raise
        fact = str(error).removeprefix(f"{inside}: ") if inside else str(error)
        raise type(error)(f"{subject}: {fact}") from error.__cause__
