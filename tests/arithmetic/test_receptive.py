"""Receptive fields against footprints: which inputs a unit depends on, found by following its taps."""

from fractions import Fraction
from math import ceil, floor

from hypothesis import given
from hypothesis import strategies as st

from tinyseg.arithmetic import ReceptiveField, receptive_field

convolutions = st.tuples(st.just("convolution"), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3),
                         st.integers(1, 3))
poolings = st.builds(lambda k: ("convolution", k, k, 0, 1), st.integers(1, 3))
unit_stride = st.tuples(st.just("convolution"), st.integers(1, 4), st.just(1), st.integers(0, 3), st.integers(1, 3))
transposed = st.tuples(st.just("transposed"), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3),
                       st.integers(1, 3))


def seen_by(layer, units):
    """The units of the layer's input that these units of its output read; borders are so far that none is met."""
    kind, k, s, p, d = layer
    if kind == "convolution":
        return {j * s - p + u * d for j in units for u in range(k)}
    return {(j + p - u * d) // s for j in units for u in range(k) if (j + p - u * d) % s == 0}


def footprint(layers, unit):
    cells = {unit}
    for layer in reversed(layers):
        cells = seen_by(layer, cells)
    return sorted(cells)


def field_of(layers):
    field = ReceptiveField()
    for kind, *arguments in layers:
        field = getattr(field, kind)(*arguments)
    return field


@given(layers=st.lists(convolutions | poolings, max_size=4))
def test_field_of_convolutions_is_the_footprint(layers):
    field = receptive_field(layer[1:] for layer in layers)
    assert field == field_of(layers)
    for unit in (0, 1, 5):
        cells = footprint(layers, unit)
        centre = Fraction(cells[0] + cells[-1], 2)
        assert field.size == cells[-1] - cells[0] + 1
        assert centre == field.start + unit * field.stride


@given(layers=st.lists(convolutions | poolings | transposed, max_size=5), unit=st.integers(-9, 9))
def test_field_of_any_chain_holds_the_footprint(layers, unit):
    field = field_of(layers)
    centre = field.start + unit * field.stride
    assert all(abs(cell - centre) <= (field.size - 1) / 2 for cell in footprint(layers, unit))


@given(k=st.integers(1, 9), s=st.integers(1, 4), p=st.integers(0, 3))
def test_some_unit_of_a_transposed_convolution_sees_the_whole_size(k, s, p):
    layer = ("transposed", k, s, p, 1)
    assert max(len(footprint([layer], unit)) for unit in range(s)) == floor(field_of([layer]).size)


@given(layers=st.lists(convolutions | poolings | transposed, max_size=4))
def test_stride_is_how_far_the_footprint_moves(layers):
    field = field_of(layers)
    period = 6**4                                    # a multiple of every product of these strides
    for unit in range(3):
        here, there = footprint(layers, unit), footprint(layers, unit + period)
        assert [cell + field.stride * period for cell in here] == there


@given(factor=st.fractions(Fraction(1, 6), 6, max_denominator=6), unit=st.integers(0, 20))
def test_interpolation_reads_its_neighbours(factor, unit):
    """The source of pixel j is (j + 1/2) / f - 1/2: bilinear weighs the cells before and after, nearest the nearest."""
    source = (unit + Fraction(1, 2)) / factor - Fraction(1, 2)
    for taps, cells in ((1, [floor(source + Fraction(1, 2))]), (2, {floor(source), ceil(source)})):
        field = ReceptiveField().resized(factor, taps)
        assert field.start + unit * field.stride == source
        assert floor(field.size) in (taps, taps + 1)
        assert all(abs(cell - source) <= (field.size - 1) / 2 for cell in cells)


@given(one=st.lists(unit_stride, max_size=3), other=st.lists(unit_stride, max_size=3), unit=st.integers(0, 5))
def test_a_sum_sees_what_either_sees(one, other, unit):
    field = field_of(one).joined(field_of(other))
    cells = sorted({*footprint(one, unit), *footprint(other, unit)})
    assert field.size == cells[-1] - cells[0] + 1
    assert field.start + unit * field.stride == Fraction(cells[0] + cells[-1], 2)


def test_crop_offsets_of_fcn():
    """The nets crop where the centres of the fields meet."""
    image, field, pools = ReceptiveField(), ReceptiveField().convolution(3, p=100), []
    for _ in range(5):
        field = field.convolution(2, 2)
        pools.append(field)
    _, _, pool3, pool4, _ = pools
    score = field.convolution(7)
    up2 = score.transposed(4, 2)
    up4 = up2.transposed(4, 2)

    def crop(larger, smaller):
        return (smaller.start - larger.start) / larger.stride

    assert crop(score.transposed(64, 32), image) == 19
    assert crop(pool4, up2) == 5
    assert crop(up2.transposed(32, 16), image) == 27
    assert crop(pool3, up4) == 9
    assert crop(up4.transposed(16, 8), image) == 31
