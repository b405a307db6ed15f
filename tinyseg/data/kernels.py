"""The compiled loops of this room.  Imported only where they run, so that `import tinyseg.data` is quick.

None is parallel: the loader runs them in several threads at once, without Python's lock.
"""

import numpy as np

from tinyseg.jit import jit

FAR = np.int64(1) << 40       # a squared distance larger than any in an image


@jit
def sample_bilinear(image, rows, columns, mirror, fill, out):
    """out[y, x] = image (H, W, C) at the real position (rows[y, x], columns[y, x]), between four pixels.

    Positions count pixel centres: 0 is the centre of the first pixel.  Beyond the outer pixels' own area the
    image is mirrored about their centres, or is `fill` (C,).
    """
    height, width, channels = image.shape
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            row, column = rows[y, x], columns[y, x]
            if mirror:
                row, column = reflect(row, height), reflect(column, width)
            elif not inside(row, height) or not inside(column, width):
                for c in range(channels):
                    out[y, x, c] = fill[c]
                continue
            row, column = min(max(row, 0.0), height - 1.0), min(max(column, 0.0), width - 1.0)
            top, left = int(row), int(column)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            down, across = row - top, column - left
            for c in range(channels):
                upper = image[top, left, c] * (1.0 - across) + image[top, right, c] * across
                lower = image[bottom, left, c] * (1.0 - across) + image[bottom, right, c] * across
                out[y, x, c] = np.uint8(upper * (1.0 - down) + lower * down + 0.5)


@jit
def sample_nearest(array, rows, columns, fill, out):
    """out[y, x] = array (H, W) at the pixel whose area holds (rows[y, x], columns[y, x]), or `fill` outside."""
    height, width = array.shape
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            row, column = rows[y, x], columns[y, x]
            if inside(row, height) and inside(column, width):
                out[y, x] = array[int(np.floor(row + 0.5)), int(np.floor(column + 0.5))]
            else:
                out[y, x] = fill


@jit(inline="always")
def inside(position, size):
    """Whether a position lies in the area of the pixels 0..size-1, each one wide about its centre."""
    return -0.5 <= position < size - 0.5


@jit(inline="always")
def reflect(position, size):
    """Mirror a position about the centres of the first and the last pixel, as often as it takes."""
    if size == 1:
        return 0.0
    period = 2.0 * (size - 1)
    position = abs(position) % period
    return min(position, period - position)


@jit(allocates=True)
def label_cells(mask, background, ignore):
    """Number the 4-connected regions of equal label 1, 2, ...; `background` and `ignore` pixels are 0."""
    height, width = mask.shape
    cells = np.zeros((height, width), np.int32)
    stack = np.empty((height * width, 2), np.int32)
    count = 0
    for top in range(height):
        for left in range(width):
            label = mask[top, left]
            if cells[top, left] != 0 or label in (background, ignore):
                continue
            count += 1
            cells[top, left] = count
            stack[0, 0], stack[0, 1] = top, left
            held = 1
            while held > 0:
                held -= 1
                row, column = stack[held, 0], stack[held, 1]
                for step in range(4):
                    y = row + (step == 0) - (step == 1)
                    x = column + (step == 2) - (step == 3)
                    if 0 <= y < height and 0 <= x < width and cells[y, x] == 0 and mask[y, x] == label:
                        cells[y, x] = count
                        stack[held, 0], stack[held, 1] = y, x
                        held += 1
    return cells, count


@jit(inline="always")
def insert(square, cell, squares, owners):
    """Keep the two smallest squared distances that belong to different cells, in order."""
    if cell == owners[0]:
        squares[0] = min(squares[0], square)
    elif square < squares[0]:
        squares[1], owners[1] = squares[0], owners[0]
        squares[0], owners[0] = square, cell
    elif square < squares[1]:
        squares[1], owners[1] = square, cell


@jit(allocates=True)
def vertical_distances(cells, squares, owners):
    """For each pixel the two nearest cells in its column: squared distances and owners, (H, W, 2)."""
    height, width = cells.shape
    squares[:] = FAR
    owners[:] = 0
    last = np.empty((2, 2), np.int64)           # the two cells met last: row, cell
    for x in range(width):
        for down in range(2):
            last[:] = 0
            for step in range(height):
                y = step if down == 0 else height - 1 - step
                cell = cells[y, x]
                if cell != 0:
                    if cell != last[0, 1]:
                        last[1, 0], last[1, 1] = last[0, 0], last[0, 1]
                    last[0, 0], last[0, 1] = y, cell
                for k in range(2):
                    if last[k, 1] != 0:
                        insert((y - last[k, 0]) ** 2, last[k, 1], squares[y, x], owners[y, x])


@jit(allocates=True)
def two_nearest(cells, radius, squares, owners, nearest):
    """Squared distances (H, W, 2) of pixels outside cells to the nearest and second nearest cell.

    They are FAR beyond `radius` pixels across, and for the pixels of cells themselves.

    A cell that is among the two nearest of a pixel is, in the column where it comes closest, among the two
    nearest of that column: otherwise two others would be closer.  So columns are searched first.
    """
    height, width = cells.shape
    best, owner = np.empty(2, np.int64), np.empty(2, np.int32)
    for y in range(height):
        for x in range(width):
            best[:] = FAR
            owner[:] = 0
            if cells[y, x] != 0:
                nearest[y, x] = best
                continue
            for across in range(radius + 1):
                if across * across >= best[1]:
                    break
                for side in range(2 if across > 0 else 1):
                    column = x + across if side == 0 else x - across
                    if 0 <= column < width:
                        for k in range(2):
                            if owners[y, column, k] != 0:
                                insert(squares[y, column, k] + across * across, owners[y, column, k], best, owner)
            nearest[y, x, 0], nearest[y, x, 1] = best[0], best[1]
