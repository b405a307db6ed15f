"""Output sizes and their inverses, along one axis.

i input, k kernel, s stride, p padding on each side, d dilation, o output, a output_padding.  The relationships are
numbered as in Dumoulin & Visin, "A guide to convolution arithmetic for deep learning" (arXiv:1603.07285).
"""

__all__ = ["conv_input_sizes", "conv_output_size", "conv_transpose_output_size", "dropped_remainder", "same_padding",
           "span"]


def span(k: int, d: int = 1) -> int:
    """How many input cells a kernel of size k with dilation d covers: d(k-1) + 1."""
    return d * (k - 1) + 1


def conv_output_size(i: int, k: int, s: int = 1, p: int = 0, d: int = 1) -> int:
    """o = floor((i + 2p - d(k-1) - 1) / s) + 1: relationship 15 (without dilation 6, which holds 1 to 5)."""
    return (i + 2 * p - span(k, d)) // s + 1


def dropped_remainder(i: int, k: int, s: int = 1, p: int = 0, d: int = 1) -> int:
    """The cells at the far end of the padded input that no window reaches: (i + 2p - d(k-1) - 1) mod s."""
    return (i + 2 * p - span(k, d)) % s


def conv_input_sizes(o: int, k: int, s: int = 1, p: int = 0, d: int = 1) -> range:
    """All input sizes that give output size o: s of them, which output_padding 0 .. s-1 tells apart."""
    smallest = (o - 1) * s - 2 * p + span(k, d)
    return range(smallest, smallest + s)


def conv_transpose_output_size(i: int, k: int, s: int = 1, p: int = 0, d: int = 1, a: int = 0) -> int:
    """o' = (i-1)s - 2p + d(k-1) + 1 + a: relationship 14 with dilation; relationships 8 to 13 are its cases."""
    return (i - 1) * s - 2 * p + span(k, d) + a


def same_padding(k: int, d: int = 1) -> tuple[int, int]:
    """(near, far) padding that keeps the size at stride 1.  An even span puts the odd cell at the far end."""
    total = span(k, d) - 1
    return total // 2, total - total // 2
