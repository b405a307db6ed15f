"""A failing case as Python to paste, and its formula with the numbers in it."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from tinyseg.kernels.foreign import option_values
from tinyseg.verify.cases import Case
from tinyseg.verify.operations import Operation
from tinyseg.verify.runner import Outcome
from tinyseg.verify.subject import DTYPES, Request
from tinyseg.verify.violation import wrong_cells

__all__ = ["lines", "spelled"]

_LONGEST = 40                                        # elements that are written out


def lines(request: Request, kernel: dict[str, Any], outcome: Outcome, op: Operation) -> str:
    """Python that shows the mismatch: of the kernel alone where it can be said so, else of the whole property."""
    case, violation = outcome.case, outcome.violation
    target = next((t for _, t in request.backward if t.rpartition(":")[2] == kernel["name"]), request.target)
    place, _, name = target.rpartition(":")
    arrays = [case[o] for o in op.operands]
    alone = (violation.direct and kernel["style"] != "geometry" and request.adapter is None and "." not in name
             and place and (violation.expected is None or violation.expected.size <= _LONGEST)
             and case.layout == "contiguous" and sum(a.size for a in arrays) <= 2 * _LONGEST)
    path = Path(place)
    if not alone:
        given = ", ".join(f"{key}={value!r}" for key, value in (
            ("op", op.name), ("supports", request.supports), ("adapter", request.adapter), ("kernel", request.kernel),
            ("tolerance", request.tolerance), ("dtypes", None if request.dtypes == DTYPES else request.dtypes))
            if value is not None)
        geometry = type(case.geometry).__name__
        return (f"from tinyseg.verify import Case, {geometry}, check\n"
                f"check({target!r}, {outcome.property.name!r}, {case!r}, {given})")
    text = ["import numpy as np"]
    if place.endswith(".py"):
        if path.parent != Path("."):
            text += ["import sys", f"sys.path.insert(0, {str(path.parent)!r})"]
        place = path.stem
    text.append(f"from {place} import {name}")
    text += [f"{word} = np.array({a.tolist()}, {str(a.dtype)!r})" for word, a in zip(op.words, arrays, strict=True)]
    values = option_values(op.name, arrays, case.geometry)
    passed = [f"{key}={values[key]}" if kernel["style"] == "names" else str(values[key]) for key in kernel["options"]]
    text.append(f"got = {name}({', '.join([*op.words, *passed])})")
    if violation.expected is not None:
        text.append(f"expected = np.array({_listed(violation.expected)})")
        text.append('print("got", got, "expected", expected, sep="\\n")')
    else:
        text.append('print("got", getattr(got, "shape", type(got)), getattr(got, "dtype", ""))')
    return "\n".join(text)


def _listed(array: np.ndarray) -> str:
    return str(array.tolist()).replace("nan", "np.nan").replace("inf", "np.inf")


def spelled(op: Operation, outcome: Outcome) -> str | None:
    """The sum behind the first wrong cell, with numbers: y[0, 0, 0, 1] = 2·1 + 3·1 = 5; got 4."""
    case, violation = outcome.case, outcome.violation
    if not (violation.direct and not op.pools and violation.expected is not None and op.result != "bias"
            and violation.got.shape == violation.expected.shape and case.values not in ("floats", "denormal")):
        return None
    at = tuple(int(i) for i in np.argwhere(wrong_cells(violation.expected, violation.got, violation.tolerance))[0])
    terms = list(_terms(op, case, at))
    if not 0 < len(terms) <= 12:
        return None
    total = violation.expected[at]
    return (f"{'y' if 'grad' not in op.name else 'd' + op.result[0]}[{', '.join(map(str, at))}] = "
            f"{' + '.join(f'{_number(a)}·{_number(b)}' for a, b in terms)} = {_number(total)}; "
            f"got {_number(violation.got[at])}")


def _terms(op: Operation, case: Case, at: tuple[int, ...]) -> Any:
    """Pairs of numbers whose products add up to one cell of the result."""
    g, weight = case.geometry, case.weight
    (N, O, P, Q), (_, C, K_h, K_w) = case.y.shape, weight.shape
    if N * O * P * Q * C * K_h * K_w > 20_000:
        return
    for n, o, p, q, c, u, v in product(*map(range, (N, O, P, Q, C, K_h, K_w))):
        h = p * g.stride[0] - g.padding[0][0] + u * g.dilation[0]
        w = q * g.stride[1] - g.padding[1][0] + v * g.dilation[1]
        if 0 <= h < g.input_size[0] and 0 <= w < g.input_size[1]:
            where = {"y": (n, o, p, q), "weight": (o, c, u, v), "x": (n, o // case.outputs * C + c, h, w)}
            if where[op.result] == at:
                yield tuple(case[name][where[name]] for name in op.operands)


def _number(value: Any) -> str:
    text = f"{float(value):.6g}"
    return f"({text})" if text.startswith("-") else text
