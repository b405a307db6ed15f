"""What is true of every convolution, whoever computes it.  Each property is a formula, and its check reads like it.

f is the kernel under test, x (N, C, H, W), w (O, C/G, K_h, K_w) and y (N, O, H', W') the three arrays of its
convolution; s stride, p padding, d dilation, G groups, a the remainder or output padding.
Unless a property says otherwise its arrays hold small integers, so that sums are exact and `==` means equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.verify.cases import LAYOUTS, Case
from tinyseg.verify.memory import poisoned_memory
from tinyseg.verify.operations import OPERATIONS
from tinyseg.verify.violation import Violation, equal

__all__ = ["PROPERTIES", "Property", "properties_of"]

LINEAR = ("conv2d", "conv_transpose2d", "conv2d_input_grad", "conv2d_weight_grad")
TRANSPOSED = ("conv_transpose2d", "conv2d_input_grad")
MEAN = ("avg_pool2d", "avg_pool2d_grad")
TRANSPOSE = {"conv2d": "conv2d_input_grad", "avg_pool2d": "avg_pool2d_grad", "avg_pool2d_grad": "avg_pool2d"}
GUIDE = "Dumoulin & Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285"
Kernel = Any                                         # a `subject.Subject`, or what is called and described like one


@dataclass(frozen=True)
class Property:
    """One formula.

    check      raises a Violation where the kernel breaks the formula on a case
    draw       arguments of `strategies.cases` that this property wants
    needs      options without which it says nothing; `without` are options that its cases leave alone
    asked      only checked where asked for: a promise that not every kernel makes
    """

    name: str
    formula: str
    source: str
    operations: tuple[str, ...]
    check: Callable[[Kernel, Case], None] = field(repr=False)
    draw: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    asked: bool = False


PROPERTIES: list[Property] = []


def holds(name: str, formula: str, source: str, operations: tuple[str, ...] = tuple(OPERATIONS), **options: Any) -> Any:
    """Decorates a check: makes it one of PROPERTIES."""
    def note(check: Callable[[Kernel, Case], None]) -> Callable[[Kernel, Case], None]:
        PROPERTIES.append(Property(name, formula, source, operations, check, **options))
        return check
    return note


def properties_of(operation: str, supports: set[str] | frozenset[str]) -> list[Property]:
    """Those that speak of an operation with these options."""
    return [p for p in PROPERTIES if operation in p.operations and supports.issuperset(p.needs) and not p.asked]


def operands(kernel: Kernel, case: Case) -> tuple[np.ndarray, ...]:
    return tuple(case[name] for name in kernel.operation.operands)


def reading(name: str, case: Case, **arrays: np.ndarray) -> np.ndarray:
    """By the definition: the operation `name` on the case's arrays, or those given in their place."""
    op = OPERATIONS[name]
    return op.definition(*(np.ascontiguousarray(arrays.get(o, case[o])) for o in op.operands), case.geometry)


def slack(kernel: Kernel, case: Case, calls: int = 1, **arrays: np.ndarray) -> float | None:
    """How far `calls` results may lie from a formula: (t + γ_n) · S each, for a mean or a kernel of tolerance t.

    S is the largest result that these operands could give, by their sizes alone: max |x| · max over o of Σ |w[o]| for a
    convolution.  An error is relative to S, not to a cell's own |x| · |w|: a transform adds up whole tiles and takes
    away again what a cell has no part in, and leaves there an error as large as at its neighbours.
    All others give sums of small whole numbers, which are exact: None.
    """
    if kernel.tolerance is None and kernel.operation.name not in MEAN:
        return None
    n = _terms(kernel, case) + 4                     # for the definition rounds too, and so does a difference of two
    error = (kernel.tolerance or 0) + gamma(n, case.dtype)
    least = n * float(np.finfo(case.dtype).smallest_subnormal)
    return calls * (error * _largest_result(kernel, case, **arrays) + least)


def gamma(n: int, dtype: str) -> float:
    """γ_n = n·u / (1 - n·u), the relative error of a sum of n products in any order."""
    nu = n * float(np.finfo(dtype).eps) / 2
    return nu / (1 - nu)


def _largest_result(kernel: Kernel, case: Case, **arrays: np.ndarray) -> float:
    """max |a| times the largest sum over |b| that meets one cell of the result, a and b the two operands."""
    result, g = kernel.operation.result, case.geometry
    size = {name: np.abs(np.where(np.isfinite(a), a, 0)).astype(np.float64)
            for name in kernel.operation.operands for a in [arrays.get(name, case[name])] if name != "indices"}
    if kernel.operation.pools:
        return size.popitem()[1].max() * (g.taps if result == "x" else 1)
    if result in ("weight", "bias"):
        return size.get("x", np.ones(1)).max() * size["y"].sum((0, 2, 3)).max()
    weight = size["weight"].reshape(g.groups, case.outputs, case.channels, -1)
    sums = weight.sum((2, 3)) if result == "y" else weight.sum((1, 3))
    return size["x" if result == "y" else "y"].max() * sums.max()


def stuffed(array: np.ndarray, steps: tuple[int, int], size: tuple[int, int] | None = None) -> np.ndarray:
    """Zeros between the elements, `steps` cells from each to the next, and after them up to `size`."""
    h, w = ((n - 1) * s + 1 for n, s in zip(array.shape[-2:], steps, strict=True))
    wide = np.zeros((*array.shape[:-2], *(size or (h, w))), array.dtype)
    wide[..., :h:steps[0], :w:steps[1]] = array
    return wide


# -- what the result is -------------------------------------------------------------------------------------------
@holds("output size", "o = floor((i + 2p - d(k-1) - 1) / s) + 1, transposed o' = (i-1)s - 2p + d(k-1) + 1 + a",
       f"{GUIDE}, relationships 15 (6 without dilation) and 14")
def output_size(kernel, case):
    got, g = kernel(*operands(kernel, case), case.geometry), case.geometry
    expected = (g.groups * case.outputs,) if kernel.operation.result == "bias" else case[kernel.operation.result].shape
    if got.shape != expected:
        numbers = []
        for axis in (0, 1):
            i, k, s, d = g.input_size[axis], g.kernel_size[axis], g.stride[axis], g.dilation[axis]
            near, far = g.padding[axis]
            pads = f"2·{near}" if near == far else f"{near}+{far}"
            o, a = g.output_size[axis], g.output_padding[axis]
            numbers.append(f"({o} - 1)·{s} - {pads} + {d}·({k}-1) + 1 + {a} = {i}" if kernel.operation.result == "x"
                           else f"floor(({i} + {pads} - {d}·({k}-1) - 1) / {s}) + 1 = {o}")
        raise Violation(f"expected shape {expected}, got {got.shape};  H: {numbers[0]},  W: {numbers[1]}",
                        advice="Check the output size before the values: other properties need it.", direct=True)


@holds("definition", "f equals the sum it is defined by", "the definition, in tinyseg.kernels.cpu.loops")
def definition(kernel, case):
    expected = reading(kernel.operation.name, case)
    equal(kernel(*operands(kernel, case), case.geometry), expected, kernel.operation.formula, direct=True,
          tolerance=slack(kernel, case))


holds("larger sizes", "f equals its definition where bands, blocks and threads begin and end",
      "the definition, in tinyseg.kernels.cpu.loops", draw={"large": True})(definition)


@holds("type", "f gives float32 for float32, float64 for float64", "the array API standard, type promotion")
def result_type(kernel, case):
    got = kernel(*operands(kernel, case), case.geometry)
    if got.dtype != case.dtype:
        raise Violation(f"operands are {case.dtype}, the result is {got.dtype}; needs {case.dtype}", direct=True,
                        advice=f"Allocate the result with dtype=x.dtype: {case.dtype} went in.")


# -- the form <y, C(w) x> -----------------------------------------------------------------------------------------
@holds("linear", "f(3u - 2v) = 3f(u) - 2f(v) in each operand", "a convolution is a matrix: " + GUIDE + ", section 4.1",
       (*LINEAR, *MEAN))
def linear(kernel, case):
    ours = operands(kernel, case)
    for k, name in enumerate(kernel.operation.operands):
        def f(array, k=k):
            return kernel(*ours[:k], array, *ours[k + 1:], case.geometry)
        u, v = ours[k], case.again(name)
        equal(f(3 * u - 2 * v), 3 * f(u) - 2 * f(v), f"f(3u - 2v) = 3f(u) - 2f(v) in {kernel.operation.words[k]}",
              tolerance=slack(kernel, case, 2, **{name: 3 * abs(u) + 2 * abs(v)}))


@holds("adjoint", "<C x, y> = <x, Cᵀ y> = <w, ∂<C x, y>/∂w>", GUIDE + ", sections 4.1 and 4.2", (*LINEAR, *MEAN))
def adjoint(kernel, case):
    def form(f):
        """<f, what f is read from>, and how far it may be missed."""
        other, allowed = case[f.operation.result].astype(np.float64), slack(f, case)
        return (np.asarray(np.vdot(f(*operands(f, case), case.geometry).astype(np.float64), other)),
                0 if allowed is None else allowed * np.abs(other).sum())
    value, allowed = form(kernel)
    for label, gradient in kernel.gradients.items():
        if label != "bias_grad":
            got, more = form(gradient)
            equal(value, got, f"<f(x), y> = <{'x' if label == 'input_grad' else 'w'}, {label}(y)>",
                  tolerance=allowed + more or None)
    if not kernel.gradients:
        op = OPERATIONS[TRANSPOSE.get(kernel.operation.name, "conv2d")]
        expected = np.vdot(reading(op.name, case).astype(np.float64), case[op.result].astype(np.float64))
        equal(value, np.asarray(expected), "<C x, y> = <x, Cᵀ y>", tolerance=2 * allowed or None)


@holds("transposed", "Cᵀ y = conv(y with s-1 zeros between, d(k-1) around and a more far; w flipped), stride 1",
       GUIDE + ", relationship 14", TRANSPOSED)
def transposed(kernel, case):
    g, weight = case.geometry, case.weight
    _, c, k_h, k_w = weight.shape
    flipped = weight.reshape(g.groups, -1, c, k_h, k_w).swapaxes(1, 2).reshape(g.groups * c, -1, k_h, k_w)
    reach = [d * (k - 1) for d, k in zip(g.dilation, g.kernel_size, strict=True)]
    around = [(r, r + a) for r, a in zip(reach, g.output_padding, strict=True)]
    stretched = np.pad(stuffed(case.y, g.stride), ((0, 0), (0, 0), *around))
    plain = ConvGeometry.convolution(stretched.shape[2:], (k_h, k_w), dilation=g.dilation, groups=g.groups)
    whole = OPERATIONS["conv2d"].definition(stretched, np.ascontiguousarray(flipped[..., ::-1, ::-1]), plain)
    (top, _), (left, _), (h, w) = *g.padding, g.input_size
    equal(kernel(*operands(kernel, case), g), whole[..., top:top + h, left:left + w],
          "Cᵀ y = conv(stuffed y, flipped w)", direct=True, tolerance=slack(kernel, case))


# -- one option in terms of another -------------------------------------------------------------------------------
@holds("stride", "C_s x = every s-th of C_1 x;  Cᵀ_s y = Cᵀ_1 (y with s-1 zeros between)",
       GUIDE + ", sections 2.3 and 4.5", LINEAR, needs=("stride",))
def stride(kernel, case):
    g = case.geometry
    dense = replace(g, stride=(1, 1), output_padding=None)
    if kernel.operation.result == "y":
        equal(kernel(case.x, case.weight, g),
              kernel(case.x, case.weight, dense)[..., :_reach(g, 0):g.stride[0], :_reach(g, 1):g.stride[1]],
              "f(x, s) = f(x, 1)[::s]", tolerance=slack(kernel, case, 2))
    else:
        wide = stuffed(case.y, g.stride, dense.output_size)
        equal(kernel(*operands(kernel, case), g), kernel(wide, case[kernel.operation.operands[1]], dense),
              "f(y, s) = f(stuffed y, 1)", tolerance=slack(kernel, case, 2))


@holds("padding", "f(x, p) = f(x with p zeros around, 0);  transposed: p cells taken away", GUIDE + ", section 2.2",
       LINEAR, needs=("padding",))
def padding(kernel, case):
    g = case.geometry
    (top, _), (left, _), (h, w) = *g.padding, g.input_size
    around = np.pad(case.x, ((0, 0), (0, 0), *g.padding))
    bare = replace(g, input_size=around.shape[2:], padding=((0, 0), (0, 0)))
    got = kernel(*operands(kernel, case), g)
    if kernel.operation.result == "x":
        equal(got, kernel(case.y, case.weight, bare)[..., top:top + h, left:left + w], "f(y, p) = f(y, 0)[p:-p]",
              tolerance=slack(kernel, case, 2))
    else:
        first = case.weight if kernel.operation.result == "y" else case.y
        arrays = (around, first) if kernel.operation.result == "y" else (first, around)
        equal(got, kernel(*arrays, bare), "f(x, p) = f(padded x, 0)", tolerance=slack(kernel, case, 2))


@holds("dilation", "f(w, d) = f(w with d-1 zeros between, 1)", GUIDE + ", section 5.1; Yu & Koltun, arXiv:1511.07122",
       LINEAR, needs=("dilation",))
def dilation(kernel, case):
    g, wide = case.geometry, stuffed(case.weight, case.geometry.dilation)
    plain = replace(g, kernel_size=wide.shape[2:], dilation=(1, 1))
    if kernel.operation.name == "conv_transpose2d" and any(np.greater_equal(g.output_padding, g.stride)):
        return                                       # an output padding that only a dilation allows
    got = kernel(*operands(kernel, case), g)
    if kernel.operation.result == "weight":
        expected = kernel(case.y, case.x, plain)[..., ::g.dilation[0], ::g.dilation[1]]
    else:
        expected = kernel(case[kernel.operation.operands[0]], wide, plain)
    equal(got, expected, "f(w, d) = f(stuffed w, 1)", tolerance=slack(kernel, case, 2))


@holds("groups", "f(w, G) = f(w as blocks on the diagonal, 1)",
       "Krizhevsky et al., ImageNet classification with deep convolutional neural networks, 2012, section 3.5",
       LINEAR, needs=("groups",))
def groups(kernel, case):
    g, (outputs, c, *taps) = case.geometry, case.weight.shape
    blocks = np.zeros((outputs, g.groups * c, *taps), case.dtype)
    diagonal = [(slice(n * case.outputs, (n + 1) * case.outputs), slice(n * c, (n + 1) * c)) for n in range(g.groups)]
    for row, column in diagonal:
        blocks[row, column] = case.weight[row]
    got, one = kernel(*operands(kernel, case), g), replace(g, groups=1)
    if kernel.operation.result == "weight":
        whole = kernel(case.y, case.x, one)
        expected = np.concatenate([whole[row, column] for row, column in diagonal])
    else:
        expected = kernel(case[kernel.operation.operands[0]], blocks, one)
    equal(got, expected, "f(w, G) = f(blocks of w, 1)", tolerance=slack(kernel, case, 2))


@holds("shift", "x moved by m·s cells moves f(x) by m;  y moved by m moves f(y) by m·s",
       "translation equivariance: Cohen & Welling, arXiv:1602.07576, section 2", ("conv2d", *TRANSPOSED))
def shift(kernel, case):
    g, m = case.geometry, (case.seed % 3, case.seed // 3 % 3)
    cells = m[0] * g.stride[0], m[1] * g.stride[1]
    moved = replace(g, input_size=(g.input_size[0] + cells[0], g.input_size[1] + cells[1]))
    by_input = kernel.operation.result == "y"
    array, steps, out = (case.x, cells, m) if by_input else (case.y, m, cells)
    far = np.pad(array, ((0, 0), (0, 0), (steps[0], 0), (steps[1], 0)))
    equal(kernel(far, case.weight, moved)[..., out[0]:, out[1]:], kernel(array, case.weight, g),
          f"f moved by {out} is f of what was moved by {steps}", tolerance=slack(kernel, case, 2))


# -- conduct ------------------------------------------------------------------------------------------------------
@holds("batch", "f(x)[n] = f(x[n]);  a weight's gradient is the sum over n", "the images of a batch do not meet",
       draw={"batch": (2, 1, 3)})
def batch(kernel, case):
    ours, one = operands(kernel, case), kernel.operation.result in ("weight", "bias")
    got = kernel(*ours, case.geometry)
    parts = [kernel(*(a if name == "weight" else a[n:n + 1]
                      for a, name in zip(ours, kernel.operation.operands, strict=True)), case.geometry)
             for n in range(case.batch)]
    equal(got, sum(parts[1:], parts[0]) if one else np.concatenate(parts),
          "f(x) = Σ f(x[n:n+1])" if one else "f(x)[n] = f(x[n:n+1])", tolerance=slack(kernel, case, 2))


@holds("inputs kept", "x after f(x) is x, and f(x) is no part of it", "an operation changes nothing that it was given")
def inputs_kept(kernel, case):
    ours = operands(kernel, case)
    kept = [a.copy() for a in ours]
    got = kernel(*ours, case.geometry)
    for word, now, before in zip(kernel.operation.words, ours, kept, strict=True):
        equal(now, before, f"{word} after the call is {word} before it",
              advice=f"The kernel writes into {word}; work on a copy, or write into the result.")
        if np.shares_memory(got, now):
            raise Violation(f"the result is a view of {word}: who changes one changes the other",
                            advice="Give a fresh array.")


@holds("every cell written", "f with fresh memory full of nan = f", "a cell that is left out shows what memory held",
       draw={"outputs": (1, 2, 3, 4, 5, 7, 9)})
def written(kernel, case):
    expected = reading(kernel.operation.name, case)
    with poisoned_memory(expected):
        got = kernel(*operands(kernel, case), case.geometry)
    equal(got, expected, "f in poisoned memory = f", tolerance=slack(kernel, case),
          advice="A cell of the result is never written, or is added to before it is set: np.zeros, or write it once.")


@holds("repeatable", "f(x), f(other), f(x) again: equal to the last bit", "no race between threads, no state kept",
       draw={"values": ("floats",), "large": True})
def repeatable(kernel, case):
    ours = operands(kernel, case)
    result = kernel(*ours, case.geometry)
    first = result.copy()
    for turn in range(3):
        kernel(*(np.flip(a) if a.dtype.kind == "f" else a for a in ours), case.geometry)
        equal(result, first, "the result of call 1, after another call", advice="Give a fresh array in each call.")
        equal(kernel(*ours, case.geometry), first, f"f(x), call {turn + 2} = f(x), call 1",
              advice="Two threads may add to one cell, or something is kept from one call to the next.")


@holds("calls apart", "f(x) after f(x, d + 2, p + k - 1) and f(x'), all of the same sizes, equals its definition",
       "an operation has no memory")
def calls_apart(kernel, case):
    g, ours = case.geometry, operands(kernel, case)
    if {"dilation", "padding"} <= kernel.supports and not kernel.operation.pools:
        more = [(near + k - 1, far + k - 1) for (near, far), k in zip(g.padding, g.kernel_size, strict=True)]
        kernel(*ours, replace(g, dilation=tuple(d + 2 for d in g.dilation), padding=tuple(more)))
    kernel(*(case[o] if o == "indices" else case.again(o) for o in kernel.operation.operands), g)
    equal(kernel(*ours, g), reading(kernel.operation.name, case), "f(x) after other calls = f(x)",
          tolerance=slack(kernel, case), advice="What is kept between calls must be told apart by values and geometry.")


@holds("layout", "f depends on values, not on how they lie in memory", "strides are no part of an array's value",
       draw={"layouts": LAYOUTS})
def layout(kernel, case):
    equal(kernel(*operands(kernel, case), case.geometry), reading(kernel.operation.name, case),
          f"f({case.layout}) = f(contiguous)", tolerance=slack(kernel, case), direct=True,
          advice="Index through the array's strides, or begin with np.ascontiguousarray.")


# -- floating point -----------------------------------------------------------------------------------------------
def _terms(kernel: Kernel, case: Case) -> int:
    """Products in the longest sum; for a mean also its division, and one on either axis."""
    taps = case.geometry.taps
    if kernel.operation.pools:
        return taps + 4
    return {"y": case.channels * taps, "x": case.outputs * taps, "weight": case.y[:, 0].size,
            "bias": case.y[:, 0].size}[kernel.operation.result]


@holds("rounding", "|f - exact| <= γ_n Σ|products|, γ_n = n·u / (1 - n·u) for n products",
       "Higham, Accuracy and Stability of Numerical Algorithms, 3.1", (*LINEAR, "conv2d_bias_grad", *MEAN),
       draw={"values": ("floats",), "large": True})
def rounding(kernel, case):
    ours = operands(kernel, case)
    wide = {name: a.astype(np.float64) for name, a in zip(kernel.operation.operands, ours, strict=True)}
    exact = reading(kernel.operation.name, case, **wide)
    size = reading(kernel.operation.name, case, **{name: np.abs(a) for name, a in wide.items()})
    n, got = _terms(kernel, case), kernel(*ours, case.geometry).astype(np.float64)
    if kernel.tolerance is not None:
        equal(got, exact, f"|f - exact| <= ({kernel.tolerance:g} + γ_{n}) max|a| max Σ|b|", direct=True,
              tolerance=slack(kernel, case), advice="Its error is larger than the tolerance that it states.")
        return
    bound = gamma(n, case.dtype) * size * (1 if case.dtype == "float32" else 2) + n * float(np.finfo(case.dtype).tiny)
    equal(got, exact, f"|f - exact| <= γ_{n} Σ|products|", direct=True, tolerance=bound,
          advice=f"Rounds more than {n} products of {case.dtype} in any order: is a sum kept in a narrower type?")


@holds("special values", "inf and nan are where the definition has them, and elsewhere only in their image by a kernel "
                         "that states a tolerance; a padded zero meets only weights",
       "IEEE 754-2019, section 6", draw={"values": ("special", "denormal")})
def special(kernel, case):
    plain, loud = replace(case, values="integers"), "x" if "x" in kernel.operation.operands else "y"
    arrays = {name: (case if name == loud else plain)[name] for name in kernel.operation.operands}
    if kernel.tolerance is not None and case.values == "denormal":
        return                                       # far below its tolerance
    got, expected = kernel(*arrays.values(), case.geometry), reading(kernel.operation.name, case, **arrays)
    if kernel.tolerance is not None and got.shape == expected.shape:
        # A transform may spread inf and nan over its tile, or its image; it must not lose one, nor touch other images.
        finite = np.isfinite(arrays[loud])
        spoiled = ~finite.all((1, 2, 3), keepdims=True) if kernel.operation.result in "xy" else not finite.all()
        expected = np.where(~np.isfinite(got) & (~np.isfinite(expected) | spoiled), got, expected)
    kind = "inf and nan" if case.values == "special" else "denormals"
    equal(got, expected, f"f with {kind} in {loud} = its definition", tolerance=slack(kernel, case, **arrays),
          advice="Comparisons with nan are false, fastmath assumes that there is none, 0 · inf is nan, and "
                 "flush-to-zero loses denormals.")


@holds("float64 sums", "f in float32 = f in float64, rounded once", "a kernel that promises sums in float64", LINEAR,
       draw={"values": ("floats",), "dtypes": ("float32",)}, asked=True)
def rounded_once(kernel, case):
    ours = operands(kernel, case)
    wide = kernel(*(a.astype(np.float64) for a in ours), case.geometry)
    equal(kernel(*ours, case.geometry), wide.astype(np.float32), "f(float32) = float32(f(float64))")


# -- pooling ------------------------------------------------------------------------------------------------------
@holds("maximum", "f(max(u, v)) = max(f(u), f(v))", "a pooling is linear where + is max and · is +", ("max_pool2d",))
def maximum(kernel, case):
    u, v = case.x, case.again("x")
    equal(kernel(np.maximum(u, v), case.geometry), np.maximum(kernel(u, case.geometry), kernel(v, case.geometry)),
          "f(max(u, v)) = max(f(u), f(v))")


@holds("increasing maps", "f(2x - 9) = 2f(x) - 9: padding never wins", "a maximum commutes with increasing maps",
       ("max_pool2d",))
def increasing(kernel, case):
    equal(kernel(2 * case.x - 9, case.geometry), 2 * kernel(case.x, case.geometry) - 9, "f(2x - 9) = 2f(x) - 9",
          advice="Padding counts as minus infinity, not as zero.")


@holds("stride of a pooling", "f(x, s) = f(x, 1)[::s]", GUIDE + ", section 3", ("max_pool2d", "avg_pool2d"),
       needs=("stride",), without=("ceil_mode", "dilation"))
def pool_stride(kernel, case):
    g = case.geometry
    dense = replace(g, stride=(1, 1), output_padding=None)
    equal(kernel(case.x, g), kernel(case.x, dense)[..., ::g.stride[0], ::g.stride[1]], "f(x, s) = f(x, 1)[::s]",
          tolerance=slack(kernel, case, 2))


@holds("channels", "f(x)[:, c] = f(x[:, c])", "a pooling sees one channel at a time",
       ("max_pool2d", "max_pool2d_grad", *MEAN))
def channels(kernel, case):
    ours = operands(kernel, case)
    parts = [kernel(*(np.ascontiguousarray(a[:, c:c + 1]) for a in ours), case.geometry)
             for c in range(ours[0].shape[1])]
    equal(kernel(*ours, case.geometry), np.concatenate(parts, 1), "f(x)[:, c] = f(x[:, c])",
          tolerance=slack(kernel, case, 2))


@holds("padding of a mean", "f(x, p) = f(x with p zeros around, 0), divided by f(ones, 0) unless padding counts",
       GUIDE + ", section 3", ("avg_pool2d",), needs=("padding",), without=("ceil_mode",))
def mean_padding(kernel, case):
    g = case.geometry
    bare = ConvGeometry.pooling([i + near + far for i, (near, far) in zip(g.input_size, g.padding, strict=True)],
                                g.kernel_size, g.stride)
    whole, ones = (kernel(np.pad(a, ((0, 0), (0, 0), *g.padding)), bare) for a in (case.x, np.ones_like(case.x)))
    equal(kernel(case.x, g), whole if g.count_include_pad else whole / ones, "f(x, p) = f(padded x, 0)",
          tolerance=slack(kernel, case, 2 if g.count_include_pad else 3 * g.taps))


@holds("mean of a constant", "f(c) = c where padding does not count", "weights of a mean add up to 1", ("avg_pool2d",))
def constant(kernel, case):
    g, value = case.geometry, case.seed - 50.0
    if g.count_include_pad and any(map(any, g.padding)):
        return
    x = np.full_like(case.x, value)
    equal(kernel(x, g), np.full_like(case.y, value), "f(c) = c", tolerance=slack(kernel, case, x=x))


@holds("gradient of a pooling", "<f(y), x> = <y, x at the indices>", "the transpose of taking x at the indices",
       ("max_pool2d_grad",))
def pool_gradient(kernel, case):
    x = case.again("x")
    taken = np.take_along_axis(x.reshape(*x.shape[:2], -1), case.indices.reshape(*x.shape[:2], -1).astype(np.int64), 2)
    equal(np.asarray(np.vdot(kernel(case.y, case.indices, case.geometry), x)),
          np.asarray(np.vdot(case.y, taken.reshape(case.y.shape))), "<f(y), x> = <y, x at the indices>")


def _reach(g: ConvGeometry, axis: int) -> int:
    return (g.output_size[axis] - 1) * g.stride[axis] + 1
