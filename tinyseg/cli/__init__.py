"""The command line.  Each command parses, calls one function of the rooms below, and prints."""

import sys
from typing import Annotated

import typer

from tinyseg.cli import bench, convert, crf, demo, evaluate, info, models, predict, train, verify
from tinyseg.errors import Interrupted, KernelError, TinysegError

__all__ = ["app", "main"]

app = typer.Typer(name="tinyseg", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  rich_markup_mode="rich", help="Semantic segmentation from first principles: train a net, look at it, "
                                                "use it.")


def _paragraphs(docstring: str) -> str:
    """Each paragraph on one line, so that the terminal's width decides where it breaks."""
    return "\n\n".join(" ".join(part.split()) for part in docstring.split("\n\n"))


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    pass


for command in (demo.demo, train.train, evaluate.evaluate, predict.predict, crf.crf, bench.bench, models.models,
                info.info, verify.verify, convert.convert, convert.inspect):
    app.command(help=_paragraphs(command.__doc__))(command)


def main() -> None:
    """Run the command line.  An error is one line and exit status 2, or 1 where somebody's kernel is at fault, or 130
    for a run that was interrupted and saved.
    """
    debug = "--debug" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    try:
        status = app(arguments or ["--help"], standalone_mode=False)
    except KeyboardInterrupt:
        print("tinyseg: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        usage = hasattr(error, "format_message")     # the parser's own errors
        if debug or not (usage or isinstance(error, TinysegError | OSError)):
            raise
        print(f"tinyseg: {_one_line(error.format_message() if usage else str(error))}", file=sys.stderr)
        sys.exit(130 if isinstance(error, Interrupted) else 1 if isinstance(error, KernelError) else 2)
    sys.exit(status if isinstance(status, int) else 0)


def _one_line(text: str) -> str:
    return " ".join(text.split())
