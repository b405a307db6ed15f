"""Faults that nobody thought of: operators, comparisons and numbers of our kernels changed one at a time.

    python tests/verify/mutants.py --count 40 --seed 0

A mutant that every property lets pass is a survivor: it is printed, for somebody to say whether it means the same.
"""

import argparse
import ast
import copy
import random
import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from verify.faults import (
    DMEAN,
    DPOOL,
    DW,
    DX,
    IM2COL,
    LOOPS,
    MATRIX,
    MEAN,
    POOL,
    POOL_LOOPS,
    POOLS,
    X,
    compiled_from,
)

from tinyseg.verify import Subject
from tinyseg.verify.properties import properties_of
from tinyseg.verify.runner import Outcome, hunt

READINGS = {LOOPS: (X, DX, DW), IM2COL: (X, DX, DW), MATRIX: (X, DX, DW), POOLS: (POOL, DPOOL),
            POOL_LOOPS: (POOL, DPOOL, MEAN, DMEAN)}
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
             ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.And: ast.Or, ast.Or: ast.And}


def mutations(tree):
    """(line, what, a function that changes the tree) for every place inside a function."""
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for node in (n for statement in function.body for n in ast.walk(statement)):
            if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in OPERATORS:
                yield node, "op", OPERATORS[type(node.op)]()
            elif isinstance(node, ast.Compare):
                for place, op in enumerate(node.ops):
                    if type(op) in OPERATORS:
                        yield node, ("ops", place), OPERATORS[type(op)]()
            elif isinstance(node, ast.Constant) and type(node.value) is int:
                yield node, "value", node.value + 1
                if node.value == 1:
                    yield node, "value", 0


def mutated(source, pick):
    """The source with its `pick`-th mutation, and the line before and after."""
    tree = ast.parse(source)
    node, where, new = list(mutations(tree))[pick]
    before = ast.unparse(node)
    if isinstance(where, tuple):
        node.ops[where[1]] = new
    else:
        setattr(node, where, new)
    return ast.unparse(tree), f"line {node.lineno}: {before} -> {ast.unparse(copy.deepcopy(node))}"


def judge(module, source, examples=50, seconds=20):
    """The first property that catches a mutated module, or None."""
    def late(*_):
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        space = compiled_from(source, module, "")
        for op in READINGS[module]:
            subject = Subject.of(getattr(space, op), op)
            for prop in properties_of(op, subject.supports):
                if prop.draw.get("large"):
                    continue                         # plain Python is slow there
                outcome = Outcome(prop)
                hunt(prop, subject, outcome, examples, 0, 10.0, shrinking=0.0)
                if outcome.failed:
                    return f"{op}: {prop.name}"
        return None
    except TimeoutError:
        return "never ends"
    except Exception as error:
        return f"{type(error).__name__} when imported"
    finally:
        signal.alarm(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--module", choices=[m.rpartition(".")[2] for m in READINGS])
    options = parser.parse_args()
    sources = {m: Path(find_spec(f"tinyseg.{m}").origin).read_text(encoding="utf-8") for m in READINGS
               if options.module in (None, m.rpartition(".")[2])}
    places = [(m, n) for m, source in sources.items() for n, _ in enumerate(mutations(ast.parse(source)))]
    chosen = random.Random(options.seed).sample(places, min(options.count, len(places)))
    survivors, began = [], time.perf_counter()
    for module, pick in chosen:
        source, change = mutated(sources[module], pick)
        caught = judge(module, source)
        survivors += [] if caught else [change]
        print(f"{module.rpartition('.')[2]:<8} {change:<90} {caught or 'SURVIVES'}", flush=True)
    print(f"\n{len(chosen) - len(survivors)} of {len(chosen)} mutants caught, of {len(places)} possible, "
          f"in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
