"""The command line.  Each command parses, calls one function of the rooms below, and prints."""

import sys
from typing import Annotated

import typer

from tinyseg.cli import demo, evaluate, info, predict, train
from tinyseg.errors import TinysegError
from tinyseg.training.trainer import Interrupted

__all__ = ["app", "main"]

app = typer.Typer(name="tinyseg", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  rich_markup_mode="rich", help="Semantic segmentation from first principles: train a net, look at it, "
                                                "use it.")


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    pass


for command in (demo.demo, train.train, evaluate.evaluate, predict.predict, info.info):
    app.command()(command)


def main() -> None:
    """Run the command line: one line and exit status 2 for an error, 130 for a run that was interrupted and saved."""
    debug = "--debug" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    try:
        app(arguments)
    except (TinysegError, OSError) as error:
        if debug:
            raise
        print(f"tinyseg: {error}", file=sys.stderr)
        sys.exit(130 if isinstance(error, Interrupted) else 2)
    except KeyboardInterrupt:
        print("tinyseg: interrupted", file=sys.stderr)
        sys.exit(130)
