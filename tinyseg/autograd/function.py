"""The graph and the pass back through it.

A `Function` is one differentiable operation and, once called, one node of the graph: it remembers its inputs and the
arrays its derivative needs.  `backward` walks the nodes from the output to the leaves, each exactly once, after every
node that used its result.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ContextDecorator, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyseg.arrays import Array, Layout, namespace
from tinyseg.errors import DTypeError, GraphError, ShapeError

if TYPE_CHECKING:
    from tinyseg.autograd.tensor import Tensor

__all__ = ["Function", "enable_grad", "is_grad_enabled", "no_grad", "unbroadcast", "watching"]


class _Recording(threading.local):
    """What this thread does with the operations it runs."""

    def __init__(self):
        self.enabled = True
        self.before: list[bool] = []                 # `enabled` outside of each open no_grad and enable_grad
        self.watchers: tuple[Callable[..., None], ...] = ()


_recording = _Recording()


def is_grad_enabled() -> bool:
    """Whether operations on this thread are recorded for a backward pass."""
    return _recording.enabled


class _SetGrad(ContextDecorator):
    _value: bool

    def __enter__(self):
        # Kept by the thread and not by this object: a decorated function runs in many threads, and inside itself.
        _recording.before.append(_recording.enabled)
        _recording.enabled = self._value

    def __exit__(self, *exception):
        _recording.enabled = _recording.before.pop()


class no_grad(_SetGrad):
    """Context or decorator in which nothing is recorded: for evaluation and for changing parameters."""
    _value = False


class enable_grad(_SetGrad):
    """Context or decorator that records again inside `no_grad`."""
    _value = True


@contextmanager
def watching(watcher: Callable[[Function, tuple[Tensor, ...], tuple[Tensor, ...]], None]) -> Iterator[None]:
    """Call `watcher(function, inputs, outputs)` after every operation of this thread, recorded or not."""
    kept = _recording.watchers
    _recording.watchers = (*kept, watcher)
    try:
        yield
    finally:
        _recording.watchers = kept


class Version:
    """How often the memory of an array was changed in place.  Tensors that share memory share one."""
    __slots__ = ("count",)

    def __init__(self):
        self.count = 0


class Function:
    """One differentiable operation; subclass it with `forward` and `backward`, both on plain arrays.

    Options go to the constructor, tensors to the call:

        class Square(Function):
            def forward(self, x):
                self.save(x)
                return x * x

            def backward(self, grad):
                x, = self.saved
                return 2 * x * grad

        y = Square()(x)            # or Square.apply(x)

    `forward` returns one array, or a tuple for several outputs.  `backward` takes one cotangent for each output (zeros
    where none arrived) and returns one gradient for each input, `None` where there is none.
    `self.needs_grad[i]` says whether input i wants its gradient.
    A Function that `takes_layouts` is given arrays and cotangents as they lie, and may return results and gradients so.
    """

    needs_grad: tuple[bool, ...] = ()
    takes_layouts = False

    def forward(self, *arrays: Any) -> Any:
        raise NotImplementedError(f"{self}.forward")

    def backward(self, *grads: Any) -> Any:
        raise NotImplementedError(f"{self}.backward")

    @classmethod
    def apply(cls, *inputs: Any, **options: Any) -> Any:
        return cls(**options)(*inputs)

    def __call__(self, *inputs: Any) -> Any:
        from tinyseg.autograd.tensor import Tensor, as_tensor
        if hasattr(self, "inputs"):
            raise GraphError(f"{self} was called already: a Function is one node of the graph; make a new one")
        like = next((i for i in inputs if isinstance(i, Tensor)), None)
        tensors = tuple(as_tensor(i, like) for i in inputs)
        self.inputs: tuple[Tensor, ...] = tensors
        self.needs_grad = tuple(t.requires_grad for t in tensors)
        self._saved: list[Array] | None = []
        recording = is_grad_enabled() and any(self.needs_grad)
        self._saves = recording

        result = self.forward(*(t._storage if self.takes_layouts else t._array for t in tensors))

        arrays = result if isinstance(result, tuple) else (result,)
        self._expect_arrays("forward", arrays)
        outputs = tuple(self._output(array, k, recording) for k, array in enumerate(arrays))
        if recording:
            self._shapes = [(a.shape, a.dtype) for a in arrays]
            self._xp = namespace(*arrays)
            self._versions = [(t._version, t._version.count) for t in (*tensors, *outputs)
                              if any(_overlap(t._storage, saved) for saved in self._saved)]
        else:
            self._saved, self.inputs = None, ()
        for watch in _recording.watchers:
            watch(self, tensors, outputs)
        return outputs if isinstance(result, tuple) else outputs[0]

    def _output(self, array: Array, k: int, recording: bool) -> Tensor:
        from tinyseg.autograd.tensor import Tensor
        requires_grad = recording and array.dtype.kind == "f"
        output = Tensor(array, requires_grad=requires_grad)
        if requires_grad:
            output.grad_fn, output._output_index = self, k
        for t in self.inputs:                      # a view: a change of one is a change of the other
            if _overlap(t._storage, output._storage):
                output._version = t._version
        return output

    def _expect_arrays(self, method: str, values: Sequence[Any]) -> None:
        for value in values:
            if value is not None and not hasattr(value, "__array_namespace__"):
                raise DTypeError(f"{self}.{method}: returned a {type(value).__name__}; needs an array, "
                                 "or a tuple of them")

    def save(self, *arrays: Array) -> None:
        """Keep arrays for `backward`.  A change in place of one that belongs to a tensor is found out there."""
        if self._saves:
            self._saved = list(arrays)

    @property
    def saved(self) -> list[Array]:
        """The arrays given to `save`.  Raises GraphError when freed, or when one was changed in place since."""
        if self._saved is None:
            raise GraphError(f"{self}: the graph was freed by an earlier backward pass; "
                             "call backward(retain_graph=True) the first time to go through it twice")
        for version, count in self._versions:
            if version.count != count:
                raise GraphError(f"{self}: an array saved for the backward pass was changed in place "
                                 f"(version {version.count}, saved at version {count}); change a copy instead")
        return self._saved

    def _pull_back(self, cotangents: Sequence[Array | None],
                   retain_graph: bool) -> Iterator[tuple[Tensor, Array, bool]]:
        """Yield (input, its share of the gradient, whether its memory is its own) for every input that wants one."""
        xp = self._xp
        grads = self.backward(*(xp.zeros(shape, dtype=dtype) if g is None
                                else g.plain() if isinstance(g, Layout) and not self.takes_layouts else g
                                for g, (shape, dtype) in zip(cotangents, self._shapes, strict=True)))
        grads = grads if isinstance(grads, tuple) else (grads,)
        self._expect_arrays("backward", grads)
        if len(grads) != len(self.inputs):
            raise ShapeError(f"{self}.backward: returned {len(grads)} gradients for {len(self.inputs)} inputs; "
                             "return one each, None where there is none")
        kept = [v for v in vars(self).values() if hasattr(v, "__array_namespace__")]
        foreign = [*cotangents, *self._saved, *kept, *(t._storage for t in self.inputs)]
        for k, (tensor, grad) in enumerate(zip(self.inputs, grads, strict=True)):
            if grad is None or not self.needs_grad[k]:
                continue
            if grad.shape != tensor.shape:
                raise ShapeError(f"{self}.backward: gradient {k} has shape {grad.shape}, its input {tensor.shape}; "
                                 "they must be equal (sum over broadcast axes)")
            # Who keeps or changes a gradient must own its memory: not share it, and not hold a broadcast, whose
            # elements are one.
            others = [*foreign, *(g for i, g in enumerate(grads) if i != k)]
            owned = not isinstance(grad, Layout) and grad.flags["WRITEABLE"] and not any(
                g is not None and _overlap(grad, g) for g in others)
            if grad.dtype != tensor.dtype:
                grad, owned = namespace(grad).astype(grad, tensor.dtype), True
            if (tensor.is_leaf or tensor._retains_grad) and not owned:
                grad, owned = namespace(grad).asarray(grad, copy=True), True
            yield tensor, grad, owned
        if not retain_graph:
            self._saved, self.inputs = None, ()

    def __repr__(self) -> str:
        return type(self).__name__


def backward(root: Tensor, cotangent: Array, retain_graph: bool) -> None:
    """Add d<root, cotangent>/dt to the `grad` of every leaf t that root depends on."""
    waiting: dict[Function, list[Array | None]] = {}
    ours: set[tuple[Function, int]] = set()          # what waits there may be added to in place

    def give(tensor: Tensor, grad: Array, owned: bool) -> None:
        if tensor.grad_fn is None or tensor._retains_grad:
            tensor._accumulate(grad)
            owned = False                            # the tensor's from now on
        if tensor.grad_fn is None:
            return
        slots = waiting.setdefault(tensor.grad_fn, [None] * len(tensor.grad_fn._shapes))
        k = tensor._output_index
        if slots[k] is not None and isinstance(slots[k], Layout) != isinstance(grad, Layout):
            slots[k], grad = (g.plain() if isinstance(g, Layout) else g for g in (slots[k], grad))
        if slots[k] is None:
            slots[k] = grad
        elif (tensor.grad_fn, k) in ours:            # one more use of one result: the gradients add up
            slots[k] += grad
        elif owned:
            grad += slots[k]
            slots[k] = grad
        else:
            slots[k], owned = slots[k] + grad, True
        if owned:
            ours.add((tensor.grad_fn, k))

    order = _topological(root.grad_fn)
    for node in order:
        node.saved                                   # noqa: B018  raises before any gradient is touched
    give(root, cotangent, False)
    while order:
        node = order.pop()                           # last first: everything that used it is done
        cotangents = waiting.pop(node, None)
        if cotangents is not None:
            for tensor, grad, owned in node._pull_back(cotangents, retain_graph):
                give(tensor, grad, owned)


def _topological(root: Function | None) -> list[Function]:
    """Every node that `root` depends on, each after its inputs.  A loop, since a deep net would exhaust recursion."""
    order: list[Function] = []
    seen: set[Function] = set()
    stack: list[tuple[Function, bool]] = [(root, False)] if root is not None else []
    while stack:
        node, finished = stack.pop()
        if finished:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((t.grad_fn, False) for t in node.inputs if t.grad_fn is not None)
    return order


def unbroadcast(grad: Array, shape: tuple[int, ...]) -> Array:
    """The transpose of broadcasting `shape` to `grad.shape`: sum over the axes that broadcasting repeated."""
    if grad.shape == shape:
        return grad
    xp = namespace(grad)
    added = grad.ndim - len(shape)
    axes = (*range(added), *(added + i for i, n in enumerate(shape) if n == 1 and grad.shape[added + i] != 1))
    return xp.reshape(xp.sum(grad, axis=axes), shape)


def _overlap(a: Array, b: Array) -> bool:
    return a is b or (not (isinstance(a, Layout) or isinstance(b, Layout)) and bool(np.may_share_memory(a, b)))
