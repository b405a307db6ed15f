"""A gallery of seeded faults: patches of our own kernels, each with the property that should catch it.

    python tests/verify/faults.py            # the table: fault, caught by, smallest geometry, seconds
"""

import sys
import time
import types
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numba
import numpy as np

from tinyseg.verify import PROPERTIES, Outcome, Subject
from tinyseg.verify.runner import EXAMPLES, hunt

PLAIN_JIT = "def jit(body=None, **options):\n    return body if body else jit\n"
ROW = "h = p * stride[0] - near[0] + u * dilation[0]"
COLUMN = "w = q * stride[1] - near[1] + v * dilation[1]"
FIRST = "first = o // (O // groups) * C"
FORWARD, BACK, GATHER = 0, 1, 2                      # the three loops of the definition, in the file's order
X, DX, DW = "conv2d", "conv2d_input_grad", "conv2d_weight_grad"
POOL, DPOOL = "max_pool2d", "max_pool2d_grad"
MEAN, DMEAN = "avg_pool2d", "avg_pool2d_grad"


@dataclass(frozen=True)
class Fault:
    """`old` becomes `new` at its n-th place in a module; `caught` are the properties that may see it, the best first.

    compiled    where only large sizes show it; else its loops run as plain Python
    header      what the new text needs
    """

    name: str
    module: str
    op: str
    old: str
    new: str
    caught: tuple[str, ...] | str
    nth: int = 0
    compiled: bool = False
    header: str = ""

    @property
    def properties(self):
        return [self.caught] if isinstance(self.caught, str) else list(self.caught)

    def source(self):
        return Path(find_spec(f"tinyseg.{self.module}").origin).read_text(encoding="utf-8")

    def patched(self):
        parts = self.source().split(self.old)
        assert len(parts) > self.nth + 1, f"{self.name}: the text to be patched is not in {self.module}"
        return self.old.join(parts[:self.nth + 1]) + self.new + self.old.join(parts[self.nth + 1:])

    def subject(self):
        module = compiled_from(self.patched(), self.module, self.header, self.compiled)
        if self.module.startswith("functional"):
            return Subject.of(differentiated(module, self.op), self.op)
        name = {"conv_transpose2d": DX}.get(self.op, self.op)
        return Subject.of(getattr(module, name), self.op)


def compiled_from(source, name, header="", compiled=False):
    """A fresh module of this source; its kernels are not cached, and plain Python unless `compiled`."""
    module = types.ModuleType(f"faulty_{name.replace('.', '_')}")
    module.jit = (lambda body=None, **options: numba.njit(body, nogil=True, error_model="numpy") if body
                  else module.jit)
    source = source.replace("from tinyseg.jit import jit\n", "" if compiled else PLAIN_JIT)
    source = source.replace("from __future__ import annotations\n", "")
    sys.modules[module.__name__] = module            # dataclasses look their module up
    exec(compile("from __future__ import annotations\n" + header + "\n" + source, f"<{name}>", "exec"), vars(module))
    return module


def differentiated(module, op):
    """A gradient by the backward pass of a patched functional module, as a plain kernel."""
    from tinyseg.autograd import tensor

    def conv2d_input_grad(grad, weight, input_shape, stride, padding, dilation, groups):
        x = tensor(np.zeros(input_shape, grad.dtype), requires_grad=True)
        module.conv2d(x, weight, None, stride, padding, dilation, groups).backward(grad)
        return x.grad.data

    def conv2d_weight_grad(grad, x, weight_shape, stride, padding, dilation, groups):
        weight = tensor(np.zeros(weight_shape, grad.dtype), requires_grad=True)
        module.conv2d(x, weight, None, stride, padding, dilation, groups).backward(grad)
        return weight.grad.data

    def conv2d_bias_grad(grad):
        bias = tensor(np.zeros(grad.shape[1], grad.dtype), requires_grad=True)
        weight = np.ones((grad.shape[1], 1, 1, 1), grad.dtype)
        module.conv2d(grad[:, :1], weight, bias).backward(grad)
        return bias.grad.data


    return locals()[op]


LOOPS, IM2COL, MATRIX, POOLS = "kernels.cpu.loops", "kernels.cpu.im2col", "kernels.cpu.matrix", "kernels.cpu.pool"
POOL_LOOPS = "kernels.cpu.pool_loops"
CONV = "functional.conv"
MAC = "total += np.float64(x[n, first + c, h, w]) * weight[o, c, u, v]"
Y = "y = np.empty((len(x), len(weight), *geometry.output_size), x.dtype)"

FAULTS = [
    # -- the definition -----------------------------------------------------------------------------------------
    Fault("padding one short", LOOPS, X, ROW, ROW.replace("- near[0]", "- near[0] + 1"), "definition"),
    Fault("padding one long, to one side", LOOPS, X, COLUMN, COLUMN.replace("near[1]", "(near[1] + (near[1] > 0))"),
          ("padding", "definition")),
    Fault("stride of the wrong axis", LOOPS, X, ROW, ROW.replace("stride[0]", "stride[1]"), ("stride", "definition")),
    Fault("stride ignored", LOOPS, X, COLUMN, COLUMN.replace(" * stride[1]", ""), ("stride", "definition")),
    Fault("dilation on one axis only", LOOPS, X, COLUMN, COLUMN.replace(" * dilation[1]", ""),
          ("dilation", "definition")),
    Fault("dilation of the wrong axis", LOOPS, X, ROW, ROW.replace("dilation[0]", "dilation[1]"),
          ("dilation", "definition")),
    Fault("kernel flipped", LOOPS, X, MAC, MAC.replace("u, v]", "K_h - 1 - u, K_w - 1 - v]"), "definition"),
    Fault("kernel flipped in one axis", LOOPS, X, MAC, MAC.replace("u, v]", "u, K_w - 1 - v]"), "definition"),
    Fault("group offset by outputs", LOOPS, X, FIRST, "first = o % groups * C", ("groups", "definition")),
    Fault("every group reads the first", LOOPS, X, FIRST, "first = 0", ("groups", "definition")),
    Fault("last row of the input unseen", LOOPS, X, "0 <= h < H", "0 <= h < max(1, H - 1)", "definition"),
    Fault("first column unseen", LOOPS, X, "0 <= w < W", "0 < w < W", "definition"),
    Fault("last kernel row dropped", LOOPS, X, "for u in range(K_h)", "for u in range(max(1, K_h - 1))", "definition"),
    Fault("overwrites in place of adding", LOOPS, X, MAC, MAC.replace("+=", "="), "definition"),
    Fault("float32 sum of float64", LOOPS, X, MAC, "total = np.float32(" + MAC.replace("+=", "+") + ")", "rounding"),
    Fault("products rounded to float32", LOOPS, X, MAC, MAC.replace("* weight", "* np.float32(1) * weight").replace(
        "np.float64(x[n, first + c, h, w])", "np.float64(np.float32(x[n, first + c, h, w]))"), "rounding"),
    Fault("images of a batch mixed", LOOPS, X, MAC, MAC.replace("x[n,", "x[0,"), ("batch", "definition")),
    Fault("last image read one early", LOOPS, X, MAC, MAC.replace("x[n,", "x[min(n, max(N - 2, 0)),"),
          ("batch", "definition")),
    Fault("input changed in place", LOOPS, X, Y, "x[..., 0] *= 2; x[..., 0] /= 2; x[..., -1] += 1\n    " + Y,
          "inputs kept"),
    Fault("weight changed in place", LOOPS, X, "    return y\n", "    weight[:] = weight[..., ::-1]\n    return y\n",
          "inputs kept"),
    Fault("needs to write into its input", LOOPS, X, Y, "x += 0\n    " + Y, "layout"),
    Fault("only right for contiguous input", LOOPS, X, Y, "x = x.ravel(order='K').reshape(x.shape)\n    " + Y,
          "layout"),
    Fault("result kept from the first call", LOOPS, X, "    return y\n",
          "    return _seen.setdefault((x.shape, weight.shape, geometry), y)\n", ("calls apart", "definition"),
          header="_seen = {}"),
    Fault("one buffer for every result", LOOPS, X, Y,
          "y = _seen.setdefault((x.shape, weight.shape, geometry), " + Y[4:] + ")", ("repeatable", "linear"),
          header="_seen = {}"),
    Fault("every seventh call wrong", LOOPS, X, "    return y\n",
          "    _calls.append(1)\n    return y + (len(_calls) % 7 == 0)\n", ("repeatable", "definition"),
          header="_calls = []"),
    Fault("remainder counted as an output", LOOPS, X, "*geometry.output_size)",
          "geometry.output_size[0] + (geometry.output_padding[0] > 0), geometry.output_size[1])", "output size"),
    Fault("near padding where far is", LOOPS, X, "geometry.near_padding",
          "(geometry.padding[0][1], geometry.padding[1][1])", ("padding", "definition")),
    Fault("padding of the wrong axis", LOOPS, X, "geometry.near_padding", "geometry.near_padding[::-1]",
          ("padding", "definition")),
    Fault("always gives float64", LOOPS, X, "x.dtype)", "np.float64)", "type"),
    Fault("gives float32 for float64", LOOPS, X, "x.dtype)", "np.float32)", ("type", "rounding")),
    Fault("axes of the output swapped", LOOPS, X, "    return y\n",
          "    return np.ascontiguousarray(y.swapaxes(2, 3)).reshape(y.shape)\n", "definition"),
    Fault("nan becomes 0", LOOPS, X, "    return y\n", "    return np.nan_to_num(y)\n", "special values"),
    Fault("denormals flushed to zero", LOOPS, X, "    return y\n", "    y[abs(y) < 1e-300] = 0\n    return y\n",
          "special values"),
    Fault("last output cell left out", LOOPS, X, "y[n, o, p, q] = total",
          "if P * Q == 1 or p * Q + q + 1 < P * Q: y[n, o, p, q] = total", ("every cell written", "definition")),
    Fault("gradient: overlaps overwrite", LOOPS, DX, "h, w] += ", "h, w] = ", ("definition", "adjoint")),
    Fault("gradient: taps transposed", LOOPS, DX, "weight[o, c, u, v]", "weight[o, c, u, K_w - 1 - v]",
          ("adjoint", "definition"), nth=BACK),
    Fault("gradient: border column unseen", LOOPS, DX, "0 <= w < W", "0 < w < W", ("adjoint", "definition"), nth=BACK),
    Fault("gradient: memory not cleared", LOOPS, DX, "np.zeros(", "np.empty(", "every cell written"),
    Fault("gradient: groups read from the wrong end", LOOPS, DX, FIRST, "first = (groups - 1 - o // (O // groups)) * C",
          ("groups", "definition"), nth=BACK),
    Fault("transposed: output_padding ignored", LOOPS, "conv_transpose2d", "*geometry.input_size",
          "geometry.input_size[0] - geometry.output_padding[0], geometry.input_size[1]", "output size"),
    Fault("transposed: output_padding at the near end", LOOPS, "conv_transpose2d",
          "x.astype(grad.dtype, copy=False)", "np.roll(x, geometry.output_padding, (2, 3)).astype(grad.dtype)",
          ("transposed", "definition")),
    Fault("transposed: stride not applied", LOOPS, "conv_transpose2d", ROW, ROW.replace(" * stride[0]", ""),
          ("transposed", "definition"), nth=BACK),
    Fault("weight gradient: one element wrong", LOOPS, DW, "weight[o, c, u, v] = total",
          "weight[o, c, u, v] = total + (o + c == 0 and u == K_h - 1 and v == K_w - 1)", ("adjoint", "definition")),
    Fault("weight gradient: only the first image", LOOPS, DW, "x[n, first + c, h, w]\n", "x[0, first + c, h, w]\n",
          ("batch", "definition")),
    Fault("weight gradient: a mean in place of a sum", LOOPS, DW, "weight[o, c, u, v] = total",
          "weight[o, c, u, v] = total / N", ("batch", "adjoint", "definition")),
    Fault("weight gradient: every group gathers from the first", LOOPS, DW, FIRST, "first = 0",
          ("groups", "definition"), nth=GATHER),
    # -- im2col ---------------------------------------------------------------------------------------------------
    Fault("columns begin by floor", IM2COL, X, "-((offset - pad) // stride)", "(pad - offset) // stride", "definition"),
    Fault("columns end one late", IM2COL, X, "(size - 1 + pad - offset)", "(size + pad - offset)", "definition"),
    Fault("far border not cleared", IM2COL, X, "for q in range(q1, Q):", "for q in range(Q, Q):",
          ("every cell written", "definition")),
    Fault("rows outside not cleared", IM2COL, X, "range(Q if outside else q0)", "range(q0)",
          ("every cell written", "definition")),
    Fault("first row taken for padding", IM2COL, X, "h < 0 or h >= H", "h <= 0 or h >= H", "definition"),
    Fault("every band begins at row 0", IM2COL, X, "h = (first_row + p)", "h = p", ("larger sizes", "definition"),
          compiled=True),
    Fault("bands placed by the wrong axis", IM2COL, X, "slice(rows.start * geometry.output_size[1]",
          "slice(rows.start * geometry.output_size[0]", ("larger sizes", "definition"), compiled=True),
    Fault("last band dropped", IM2COL, X, "range(0, height, step)", "range(0, max(step, height - height % step), step)",
          ("larger sizes", "every cell written", "definition"), compiled=True),
    Fault("1x1 shortcut taken with padding", IM2COL, X, " and not any(map(any, geometry.padding))", "", "definition"),
    Fault("1x1 shortcut taken with stride", IM2COL, X, "geometry.output_size == geometry.input_size",
          "geometry.output_size <= geometry.input_size", ("stride", "definition")),
    Fault("outputs of groups interleaved", IM2COL, X, "weight.reshape(groups, len(weight) // groups, -1)",
          "weight.reshape(len(weight) // groups, groups, -1).swapaxes(0, 1)", ("groups", "definition")),
    Fault("odd widths miss a column", IM2COL, X, "for q in range(len(target)):\n            target[q] = source[q]\n",
          "for q in range(len(target) - len(target) % 2 * (len(target) > 1)):\n            target[q] = source[q]\n",
          ("every cell written", "definition")),
    Fault("wrong above 16 channels", IM2COL, X, "for c in range(C):", "for c in range(min(C, 16)):", "larger sizes",
          compiled=True),
    Fault("wrong beyond 128 columns", IM2COL, X, "line[q0:q1], stride[1])", "line[q0:min(q1, 128)], stride[1])",
          "larger sizes", compiled=True),
    Fault("threads share one buffer", IM2COL, X, "columns = im2col(x[n], geometry, rows, geometry.groups)",
          "_box[0] = im2col(x[n], geometry, rows, geometry.groups); time.sleep(1e-2); columns = _box[0]",
          ("repeatable", "larger sizes"), header="import time\n_box = [None]", compiled=True),
    Fault("gradient: threads' channels overlap", IM2COL, DX, "units * t // parts",
          "max(0, units * t // parts - (t == 1))", ("larger sizes", "definition"), compiled=True),
    Fault("gradient: strided columns overwrite", IM2COL, DX, "target[q * step] += source[q]",
          "target[q * step] = source[q]", ("adjoint", "definition")),
    Fault("gradient: not cleared between calls", IM2COL, DX, "np.zeros(", "np.empty(", "every cell written"),
    Fault("gradient: channels of a share misplaced", IM2COL, DX, "slice(first * geometry.taps, last * geometry.taps)",
          "slice(0, (last - first) * geometry.taps)", ("definition", "larger sizes")),
    Fault("weight gradient: bands not accumulated", IM2COL, DW, "mine += pixels_n", "mine[...] = pixels_n",
          ("batch", "definition")),
    Fault("weight gradient: not cleared", IM2COL, DW, "weight = np.zeros(", "weight = np.empty(", "every cell written"),
    # -- the kernel matrix ------------------------------------------------------------------------------------------
    Fault("C ordered by the wrong size", MATRIX, X, "o * (P * Q) + rows", "o * (P * P) + rows", "definition"),
    Fault("C with groups interleaved", MATRIX, X, "first = o // (out_channels // groups) * group_channels",
          "first = o % groups * group_channels", ("groups", "definition")),
    Fault("C of the transposed weight", MATRIX, X, "((o * group_channels + c) * geometry.taps",
          "((c * out_channels + o) * geometry.taps", "definition"),
    Fault("C without the first cell", MATRIX, X, "(i >= 0)", "(i > 0)", "definition"),
    Fault("C padded at the far side", MATRIX, X, "geometry.padding[a][0]", "geometry.padding[a][1]",
          ("padding", "definition")),
    Fault("C dilated alike on both axes", MATRIX, X, "geometry.dilation[a]", "geometry.dilation[0]",
          ("dilation", "definition")),
    Fault("C remembered without its dilation", MATRIX, X, "@lru_cache(maxsize=32)", "@_remembered",
          ("calls apart", "definition"), header="def _remembered(f):\n    seen = {}\n"
          "    return lambda g, *c: seen.setdefault((g.input_size, g.output_size, g.kernel_size, c), f(g, *c))\n"),
    Fault("product in float32", MATRIX, X, "np.float64(values[e])", "np.float32(values[e])", "rounding"),
    Fault("transpose without its values", MATRIX, DX, "self.values[order]", "self.values", ("adjoint", "definition")),
    Fault("weight gradient of the last image only", MATRIX, DW, "products += ", "products = ", ("batch", "definition")),
    Fault("weight gradient always float64", MATRIX, DW, ".reshape(shape).astype(x.dtype)", ".reshape(shape)", "type"),
    # -- pooling ------------------------------------------------------------------------------------------------------
    Fault("pooling swallows nan", POOLS, POOL, " or value != value", "", "special values"),
    Fault("pooling takes the smallest", POOLS, POOL, "value > best[j]", "value < best[j]", ("maximum", "definition")),
    Fault("padding wins over negative values", POOLS, POOL, "where[:] = -1", "where[:] = 0; best[:] = 0",
          ("increasing maps", "definition")),
    Fault("pooling never begins", POOLS, POOL, " or where[j] < 0", "", ("every cell written", "definition")),
    Fault("pooling windows begin by floor", POOLS, POOL, "(stride_w - 1 - offset)", "(-offset)", "definition"),
    Fault("pooling windows end early", POOLS, POOL, "(width - 1 - offset)", "(width - 2 - offset)",
          ("definition", "every cell written")),
    Fault("pooling dilates one axis only", POOLS, POOL, "a * dilation_h", "a", "definition"),
    Fault("pooling strides of the wrong axis", POOLS, POOL, "*geometry.stride,", "*geometry.stride[::-1],",
          ("stride of a pooling", "definition")),
    Fault("pooling of the first plane only", POOLS, POOL, "line = x[p, h]", "line = x[0, h]", ("batch", "definition")),
    Fault("pooling gradient: a cell that won twice", POOLS, DPOOL, "+= grad[p, j]", "= grad[p, j]",
          ("gradient of a pooling", "definition")),
    Fault("pooling gradient: not cleared", POOLS, DPOOL, "= zeros(", "= np.empty(", "every cell written"),
    Fault("mean: padding always counts", POOL_LOOPS, MEAN, " if geometry.count_include_pad else (0, 0, 0, 0)", "",
          ("mean of a constant", "definition")),
    Fault("mean: padding never counts", POOL_LOOPS, MEAN, "if geometry.count_include_pad else", "if False else",
          ("padding of a mean", "definition")),
    Fault("mean: what was rounded up counts", POOL_LOOPS, MEAN, "geometry.asked_padding", "geometry.padding",
          "definition"),
    Fault("mean: divides by the whole kernel", POOL_LOOPS, MEAN, "cells += -counted[0] <= h < H + counted[1] and",
          "cells += True or", ("mean of a constant", "definition")),
    Fault("mean: far padding of the wrong axis", POOL_LOOPS, MEAN, "W + counted[3]", "W + counted[1]",
          ("padding of a mean", "definition")),
    Fault("mean: padded at the wrong side", POOL_LOOPS, MEAN, "- near[1] + v\n", "- near[0] + v\n",
          ("padding of a mean", "definition")),
    Fault("mean: float32 sum of float64", POOL_LOOPS, MEAN, "total += x[n, c, h, w]",
          "total = np.float32(total + x[n, c, h, w])", ("rounding", "definition")),
    Fault("mean: channels mixed", POOL_LOOPS, MEAN, "total += x[n, c, h, w]", "total += x[n, 0, h, w]",
          ("channels", "definition")),
    Fault("mean: the largest in place of the sum", POOL_LOOPS, MEAN, "total += x[n, c, h, w]",
          "total = max(total, x[n, c, h, w])", ("linear", "definition")),
    Fault("mean gradient: not divided", POOL_LOOPS, DMEAN, " / _cells(p, q, H, W, kernel, stride, near, counted)",
          "", ("adjoint", "definition"), nth=1),
    Fault("mean gradient: overlaps overwrite", POOL_LOOPS, DMEAN, "+= share", "= share", ("adjoint", "definition")),
    Fault("mean gradient: stride of the wrong axis", POOL_LOOPS, DMEAN, "q * stride[1]", "q * stride[0]",
          ("adjoint", "definition"), nth=2),
    # -- what training sees -------------------------------------------------------------------------------------------
    Fault("backward: kernel flipped", CONV, DX, "kernels.conv2d_input_grad(grad, weight,",
          "kernels.conv2d_input_grad(grad, weight[..., ::-1, ::-1],", ("adjoint", "definition")),
    Fault("backward: gradient doubled", CONV, DW, "kernels.conv2d_weight_grad(grad, x,",
          "2 * kernels.conv2d_weight_grad(grad, x,", ("adjoint", "definition")),
    Fault("backward: bias gradient of each image", CONV, "conv2d_bias_grad", 'run("channel_sums", grad)',
          'run("channel_sums", grad) / len(grad)', ("batch", "definition")),
]


def caught_by(fault, examples=100, seed=0):
    """(outcome, seconds) of the first property in its list that sees a fault, or (None, seconds).

    Far fewer cases than `tinyseg verify` tries: up to 150 of each property in a minute.
    """
    began, subject = time.perf_counter(), fault.subject()
    for name in fault.properties:
        prop = next(p for p in PROPERTIES if p.name == name)
        if not fault.compiled:
            prop = replace(prop, draw={**prop.draw, "large": False})
        outcome = Outcome(prop)
        for turn in range(-(-examples // EXAMPLES)):
            hunt(prop, subject, outcome, EXAMPLES, 1000 * seed + turn, 20.0, shrinking=2.0)
            if outcome.failed:
                return outcome, time.perf_counter() - began
    return None, time.perf_counter() - began


def main():
    rows = []
    for fault in FAULTS:
        outcome, seconds = caught_by(fault)
        rows.append((outcome, seconds))
        where = f"{fault.module.rpartition('.')[2]}, {fault.op}"
        print(f"{fault.name:<50} {where:<28} {outcome.property.name if outcome else 'NOT CAUGHT':<22} "
              f"{str(outcome.case) if outcome else '':<60} {seconds:5.1f} s", flush=True)
    names = [outcome.property.name for outcome, _ in rows if outcome]
    print(f"\n{len(names)} of {len(rows)} caught in {sum(s for _, s in rows):.0f} s: "
          + ", ".join(f"{name} {names.count(name)}" for name in dict.fromkeys(names)))
    return 0 if len(names) == len(rows) else 1


if __name__ == "__main__":
    import_module("tinyseg.kernels")
    sys.exit(main())
