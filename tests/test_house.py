"""The house stays a staircase: a room imports from floors below it, and light doors open heavy rooms only when used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tinyseg

ROOT = Path(tinyseg.__file__).parent
FLOORS = [
    {"errors"},
    {"arrays", "files", "jit", "precision"},
    {"arithmetic", "autograd"},
    {"kernels", "data", "metrics"},
    {"functional", "machine"},
    {"nn", "optim", "checkpoint"},
    {"models", "draw", "crf"},
    {"inference"},
    {"training", "verify", "bench", "interop"},
    {"cli", "explore"},
]
FLOOR = {room: n for n, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(p for p in ROOT.rglob("*.py") if p.parent != ROOT or p.stem not in ("__init__", "__main__"))


def room_of(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported_rooms(path):
    """(line, room) of every import of tinyseg in a file, also those inside functions."""
    package = ("tinyseg", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            # `from tinyseg import no_grad` takes a name of the front door, which autograd gives it
            if parts[0] == "tinyseg" and len(parts) > 1 and (parts[1] in FLOOR or (ROOT / parts[1]).exists()):
                yield node.lineno, parts[1]


def prints(path):
    return [node.lineno for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down_the_stairs(path):
    room = room_of(path)
    assert room in FLOOR, f"{room} has no floor: give it one in FLOORS"
    wrong = [f"{path.relative_to(ROOT)}:{line} imports {other}" for line, other in imported_rooms(path)
             if other != room and not FLOOR.get(other, len(FLOORS)) < FLOOR[room]]
    assert not wrong


@pytest.mark.parametrize("path", [p for p in MODULES if FLOOR.get(room_of(p), 0) < FLOOR["cli"]],
                         ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_below_the_top_do_not_print(path):
    assert len(prints(path)) == (path == ROOT / "jit.py")    # one line while kernels compile


def test_the_staircase_test_can_fail(tmp_path, monkeypatch):
    module = tmp_path / "kernels" / "bad.py"
    module.parent.mkdir()
    module.write_text("def lazily():\n    from tinyseg.nn import Module\n    from ..optim import sgd\n    print(1)\n")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert list(imported_rooms(module)) == [(2, "nn"), (3, "optim")]
    assert prints(module) == [4]


def test_the_front_door_is_light():
    """`import tinyseg` waits for no compiler, plotter, image library or command line."""
    code = "import sys, tinyseg; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    loaded = {name.partition(".")[0] for name in out.stdout.split()}
    assert not loaded & {"numba", "llvmlite", "matplotlib", "PIL", "typer", "rich", "safetensors", "torch"}


def test_every_name_at_the_front_door_opens():
    missing = [name for name in tinyseg.__all__ if not hasattr(tinyseg, name)]
    assert not missing
