"""Folders of images and masks: pairing, and how a set of masks is understood."""

import numpy as np
import pytest
from PIL import Image

from tinyseg.data import FolderDataset, read_classes, voc_palette, write_image, write_mask
from tinyseg.errors import ArgumentError, DataError


@pytest.fixture
def folder(tmp_path):
    """A function that writes images/ and masks/ from {name: mask array}, and opens them."""
    def write(masks, **options):
        for name, mask in masks.items():
            mask = np.asarray(mask)
            mask = mask if mask.dtype in (np.uint16, bool) else mask.astype(np.uint8)
            write_image(tmp_path / "images" / f"{name}.png", np.zeros((*mask.shape[:2], 3), np.uint8))
            (tmp_path / "masks").mkdir(exist_ok=True)
            Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
        return FolderDataset(tmp_path / "images", tmp_path / "masks", **options)
    write.path = tmp_path
    return write


def told(dataset):
    return "\n".join(dataset.notices)


def test_indices_are_read_as_they_are(folder):
    data = folder({"a": [[0, 1]], "b": [[2, 255]]})
    assert data.classes == ("class 0", "class 1", "class 2")
    assert data.notices == []
    assert data[1].mask.tolist() == [[2, 255]]
    assert data[1].name == "b"
    assert [sample.name for sample in data] == ["a", "b"]


def test_0_and_255_are_two_classes(folder):
    data = folder({"a": [[0, 255]], "b": [[0, 0]]})
    assert len(data.classes) == 2
    assert data[0].mask.tolist() == [[0, 1]]
    assert "read as classes 0 and 1" in told(data)


@pytest.mark.parametrize("options", [{"num_classes": 21}, {"classes": ["a", "b", "c"]}, {"ignore_value": 255},
                                     {"mask_encoding": "index"}])
def test_0_and_255_are_class_and_ignore_where_something_says_so(folder, options):
    data = folder({"a": [[0, 255]]}, **options)
    assert data[0].mask.tolist() == [[0, 255]]
    assert "read as classes 0 and 1" not in told(data)


def test_0_and_255_in_a_voc_palette_are_background_and_border(folder, tmp_path):
    folder({"a": [[0, 1]]})
    write_mask(tmp_path / "masks" / "a.png", np.array([[0, 255]]))
    data = FolderDataset(tmp_path / "images", tmp_path / "masks")
    assert data[0].mask.tolist() == [[0, 255]]
    assert '255 is read as "ignore"' in told(data)


def test_one_file_of_0_and_255_does_not_decide_for_the_set(folder):
    data = folder({"a": [[0, 255]], "b": [[0, 3]]})
    assert data[0].mask.tolist() == [[0, 255]]


def test_one_bit_masks(folder):
    data = folder({"a": np.array([[False, True]])})
    assert data[0].mask.tolist() == [[0, 1]]


def test_binary_can_be_forced(folder):
    data = folder({"a": np.array([[0, 1, 700]], np.uint16)}, mask_encoding="binary")
    assert data[0].mask.tolist() == [[0, 1, 1]]
    assert len(data.classes) == 2
    assert "class 1" in told(data)


def test_instance_ids_ask_what_to_do(folder):
    with pytest.raises(DataError, match=r'a\.png: has 16-bit values up to 7.*"index".*"binary"'):
        folder({"a": np.array([[0, 7]], np.uint16)})
    assert folder({"a": np.array([[0, 7]], np.uint16)}, mask_encoding="index")[0].mask.tolist() == [[0, 7]]
    with pytest.raises(DataError, match=r"a\.png: holds values from 0 to 700"):
        folder({"a": np.array([[0, 700]], np.uint16)}, mask_encoding="index")


def test_voc_colors_are_its_classes(folder):
    palette = voc_palette()
    data = folder({"a": palette[np.array([[0, 15]])], "b": palette[np.array([[2, 255]])]}, num_classes=21)
    assert data[0].mask.tolist() == [[0, 15]]
    assert data[1].mask.tolist() == [[2, 255]]
    assert "VOC" in told(data)


def test_other_colors_are_numbered_over_all_masks(folder):
    data = folder({"a": [[[200, 0, 0], [0, 0, 0]]], "b": [[[0, 70, 9], [200, 0, 0]]]})
    assert data[0].mask.tolist() == [[2, 0]]
    assert data[1].mask.tolist() == [[1, 2]]
    assert data.palette[:3].tolist() == [[0, 0, 0], [0, 70, 9], [200, 0, 0]]
    assert "1=(0,70,9)" in told(data)


RED, GREEN, BLUE, WHITE = (200, 0, 0), (0, 200, 0), (0, 0, 200), (250, 250, 250)


def test_another_set_has_the_numbers_of_the_first(folder, tmp_path):
    """A set without green would number its colours 0 and 1."""
    first = folder({"a": [[RED, GREEN, BLUE]]})
    labels = dict(zip((RED, GREEN, BLUE), first[0].mask[0].tolist(), strict=True))
    for mask, options, expected in (([[RED, BLUE]], {}, [labels[RED], labels[BLUE]]),
                                    ([[BLUE, WHITE]], {"ignore_value": WHITE}, [labels[BLUE], 255])):
        write_image(tmp_path / "other" / "a.png", np.zeros((1, 2, 3), np.uint8))
        write_image(tmp_path / "other" / "a_mask.png", np.array(mask, np.uint8))
        other = FolderDataset(tmp_path / "other", tmp_path / "other", first.classes, palette=first.palette, **options)
        assert other[0].mask.tolist() == [expected]
    with pytest.raises(DataError, match=r"a_mask\.png: holds \(250,250,250\), which is the colour of none of the 3"):
        FolderDataset(tmp_path / "other", tmp_path / "other", first.classes, palette=first.palette)


def test_a_part_opens_no_other_masks(folder, tmp_path):
    folder({name: [[0, 1]] for name in "abcd"})
    for name in "ad":
        (tmp_path / "masks" / f"{name}.png").write_bytes(b"spoiled")
    data = FolderDataset(tmp_path / "images", tmp_path / "masks", part=lambda count: range(1, count - 1))
    assert [sample.name for sample in data] == ["b", "c"]


def test_a_color_can_mean_ignore(folder):
    data = folder({"a": [[[200, 0, 0], [0, 0, 0], [255, 255, 255]]]}, ignore_value=(255, 255, 255))
    assert data[0].mask.tolist() == [[1, 0, 255]]
    assert "(255,255,255) is read as" in told(data)


def test_grey_saved_as_rgb_is_grey(folder):
    data = folder({"a": np.repeat([[[0], [4]]], 3, axis=2)})
    assert data[0].mask.tolist() == [[0, 4]]
    data = folder({"a": np.repeat([[[0], [255]]], 3, axis=2)})
    assert data[0].mask.tolist() == [[0, 1]]


def test_an_all_black_grey_mask_fits_into_a_color_set(folder):
    data = folder({"a": [[0, 0]], "b": [[[0, 0, 0], [9, 8, 7]]]})
    assert data[0].mask.tolist() == [[0, 0]]
    assert data[1].mask.tolist() == [[0, 1]]


def test_shades_can_be_numbered(folder):
    data = folder({"a": [[0, 85, 170]]})
    assert "never hold 1 (class 1)" in told(data)
    assert 'mask_encoding="color"' in told(data)
    data = folder({"a": [[0, 85, 170]]}, mask_encoding="color")
    assert data[0].mask.tolist() == [[0, 1, 2]]


def test_too_many_colors_are_no_mask(folder):
    photo = np.random.default_rng(0).integers(0, 256, (20, 20, 3))
    with pytest.raises(DataError, match="hold 400 colours; needs at most 255"):
        folder({"a": photo})


def test_lossy_masks_are_refused_unless_binary(folder, tmp_path):
    folder({"a": [[0, 1]]})
    (tmp_path / "masks" / "a.png").unlink()
    Image.fromarray(np.array([[3, 250]], np.uint8)).resize((2, 1)).save(tmp_path / "masks" / "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: JPEG"):
        FolderDataset(tmp_path / "images", tmp_path / "masks")
    data = FolderDataset(tmp_path / "images", tmp_path / "masks", mask_encoding="binary")
    assert data[0].mask.tolist() == [[0, 1]]


def test_the_ignore_value_becomes_255_and_is_no_class(folder):
    data = folder({"a": [[0, 1, 11]]}, ignore_value=11)
    assert data[0].mask.tolist() == [[0, 1, 255]]
    assert len(data.classes) == 2
    assert 'value 11 is read as "ignore"' in told(data)


def test_a_class_that_never_appears_is_told(folder):
    data = folder({"a": [[0, 2]]}, classes=["sky", "road", "car"])
    assert data.notices == ["masks: never hold 1 (road)"]


def test_a_label_that_is_no_class_is_told_with_its_file(folder):
    with pytest.raises(DataError, match=r"b\.png: holds label 3 .*3 classes.*num_classes=4.*ignore_value=3"):
        folder({"a": [[0, 2]], "b": [[0, 3]]}, num_classes=3)


def test_masks_without_a_labelled_pixel(folder):
    with pytest.raises(DataError, match="no mask has a labelled pixel"):
        folder({"a": [[255, 255]]}, mask_encoding="index")


def test_palette_and_color_files_do_not_mix(folder, tmp_path):
    folder({"a": [[0, 1]], "b": [[[0, 0, 0], [9, 8, 7]]]})
    write_mask(tmp_path / "masks" / "a.png", np.array([[0, 1]]))
    with pytest.raises(DataError, match=r"a\.png: is a palette mask in a set with RGB"):
        FolderDataset(tmp_path / "images", tmp_path / "masks")
    with pytest.raises(DataError, match=r"b\.png: is an RGB mask"):
        FolderDataset(tmp_path / "images", tmp_path / "masks", mask_encoding="index")


def test_a_mask_of_another_size(folder, tmp_path):
    folder({"a": [[0, 1]]})
    write_image(tmp_path / "images" / "a.png", np.zeros((2, 1, 3), np.uint8))
    with pytest.raises(DataError, match=r"a\.png: is 1x2 \(HxW\), but its image a\.png is 2x1"):
        FolderDataset(tmp_path / "images", tmp_path / "masks")


def test_a_turned_photograph_has_the_size_it_is_seen_in(folder, tmp_path):
    folder({"a": [[0, 1]]})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (1, 2)).save(tmp_path / "images" / "a.png", exif=exif)      # stored upright, seen lying
    sample = FolderDataset(tmp_path / "images", tmp_path / "masks")[0]
    assert sample.size == (1, 2)


def test_a_mask_that_changes_later(folder, tmp_path):
    data = folder({"a": [[0, 2]]})
    write_mask(tmp_path / "masks" / "a.png", np.array([[0, 1]]))
    with pytest.raises(DataError, match=r"a\.png: holds value 1, which no mask held"):
        data[0]


@pytest.mark.parametrize(("image", "mask"), [("x.jpg", "x.png"), ("x.png", "x_mask.png"), ("x.png", "x_label.gif"),
                                             ("x.png", "x_gt.bmp"), ("x_image.png", "x_mask.png")])
def test_partners_are_found_by_stem(tmp_path, image, mask):
    for folder, name in (("images", image), ("masks", mask)):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.array([[0, 1]], np.uint8)).save(tmp_path / folder / name)
    (tmp_path / "images" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "images" / "notes.txt").write_text("x")
    data = FolderDataset(tmp_path / "images", tmp_path / "masks")
    assert data[0].mask.tolist() == [[0, 1]]


def test_images_and_masks_in_one_folder(tmp_path):
    for name in ("x.png", "x_mask.png", "y.png", "y_mask.png"):
        Image.fromarray(np.array([[0, 1]], np.uint8)).save(tmp_path / name)
    data = FolderDataset(tmp_path, tmp_path)
    assert [sample.name for sample in data] == ["x", "y"]
    for path in tmp_path.glob("*_mask.png"):
        path.unlink()
    with pytest.raises(DataError, match="2 images and 0 masks"):
        FolderDataset(tmp_path, tmp_path)


def test_missing_partners_are_told(folder, tmp_path):
    folder({"a": [[0, 1]], "b": [[0, 1]]})
    (tmp_path / "masks" / "b.png").rename(tmp_path / "masks" / "c.png")
    with pytest.raises(DataError, match=r"images/b\.png: has no mask"):
        FolderDataset(tmp_path / "images", tmp_path / "masks")
    (tmp_path / "images" / "b.png").unlink()
    with pytest.raises(DataError, match=r"masks/c\.png: has no image"):
        FolderDataset(tmp_path / "images", tmp_path / "masks")


def test_two_files_of_one_stem(folder, tmp_path):
    folder({"a": [[0, 1]]})
    Image.new("RGB", (2, 1)).save(tmp_path / "images" / "a.jpg")
    with pytest.raises(DataError, match=r"a\.png: a\.jpg beside it has the same stem"):
        FolderDataset(tmp_path / "images", tmp_path / "masks")


def test_folders_that_hold_nothing(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        FolderDataset(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        FolderDataset(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        FolderDataset(tmp_path / "file")


def test_images_alone(folder, tmp_path):
    folder({"a": [[0, 1]]})
    data = FolderDataset(tmp_path / "images", classes=["a", "b"], channels=1)
    assert data[0].mask is None
    assert data[0].image.shape == (1, 2, 1)
    assert data.classes == ("a", "b")


def test_class_names_from_a_file(folder, tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("\ufeffsky\nroad \n\n", encoding="utf-8")
    assert folder({"a": [[0, 1]]}, classes=path).classes == ("sky", "road")
    path.write_text("\n")
    with pytest.raises(DataError, match="holds no class names"):
        read_classes(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as class names"):
        read_classes(path)


@pytest.mark.parametrize(("options", "rule"), [
    ({"channels": 4}, "3 .RGB. or 1"), ({"mask_encoding": "rle"}, "needs \"auto\""), ({"num_classes": 300}, "1..255"),
    ({"num_classes": 3, "classes": ["a", "b"]}, "classes has 2 names")])
def test_arguments_are_checked(folder, options, rule):
    with pytest.raises(ArgumentError, match=rule):
        folder({"a": [[0, 1]]}, **options)


def test_camvid(test_data):
    data = FolderDataset(test_data / "camvid" / "train", test_data / "camvid" / "trainannot", ignore_value=11)
    assert len(data) == 44
    assert len(data.classes) == 11
    sample = data[0]
    assert sample.image.shape == (360, 480, 3)
    assert set(np.unique(sample.mask)) <= {*range(11), 255}
    with pytest.raises(DataError, match="holds label 11"):
        FolderDataset(test_data / "camvid" / "val", test_data / "camvid" / "valannot", num_classes=11)


def test_membranes(test_data):
    data = FolderDataset(test_data / "isbi_em" / "image", test_data / "isbi_em" / "label", channels=1)
    assert len(data) == 24
    assert data[0].image.shape == (512, 512, 1)
    assert data[0].mask.mean() > 0.5                            # cells are 1, the membranes between them 0
    assert "read as classes 0 and 1" in told(data)


def test_nuclei(test_data):
    paths = test_data / "dsb2018" / "images", test_data / "dsb2018" / "labels"
    with pytest.raises(DataError, match="16-bit"):
        FolderDataset(*paths)
    assert np.unique(FolderDataset(*paths, mask_encoding="binary")[0].mask).tolist() == [0, 1]
