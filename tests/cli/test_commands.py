"""The commands, run as a user runs them."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tinyseg.data import StreetScenes, read_mask
from tinyseg.inference import Predictor

SMALL = ("--base-channels", 4, "--depth", 2, "--batch-size", 2, "--steps", 4)


@pytest.fixture(scope="module")
def run(tmp_path_factory, street):
    """A short run on files."""
    import subprocess
    import sys
    folder = tmp_path_factory.mktemp("runs") / "mine"
    done = subprocess.run([sys.executable, "-c", "from tinyseg.cli import main; main()", "train", "--images",
                           street / "images", "--masks", street / "masks", "--classes", street / "classes.txt",
                           *map(str, SMALL), "--out", folder], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "most frequent class" in done.stdout
    assert str(folder / "report.html") in done.stdout
    return folder


def test_a_demo_leaves_everything_it_promises(tinyseg, tmp_path):
    out = tinyseg("demo", "--steps", 6).stdout
    folder = tmp_path / "runs" / "demo"
    assert {p.name for p in folder.iterdir()} == {"report.html", "metrics.csv", "config.json", "best.safetensors",
                                                  "last.safetensors"}
    assert re.search(r"mIoU 0\.\d+, and 0\.\d+ for always answering the most frequent class", out)
    assert out.strip().endswith("report.html")
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 7))
    assert rows[-1]["mean_iou"]
    page = (folder / "report.html").read_text()
    assert all(name in page for name in StreetScenes.classes)
    tinyseg("demo", "--steps", 2)                    # a second demo replaces the first


def test_evaluate_repeats_what_training_found(tinyseg, run):
    with (run / "metrics.csv").open() as file:
        best = max(float(row["mean_iou"]) for row in csv.DictReader(file) if row["mean_iou"])
    found = json.loads(tinyseg("evaluate", run, "--json").stdout)
    assert found["mean_iou"] == pytest.approx(best, abs=1e-12)
    table = tinyseg("evaluate", run).stdout
    assert "frequency-weighted IoU" in table
    assert all(name in table for name in StreetScenes.classes)


def test_evaluate_on_other_images(tinyseg, run, street):
    found = json.loads(tinyseg("evaluate", run / "last.safetensors", "--images", street / "images", "--masks",
                               street / "masks", "--json").stdout)
    assert 0 <= found["pixel_accuracy"] <= 1


def test_predict_writes_overlay_mask_and_probabilities(tinyseg, run, street, tmp_path):
    tinyseg("predict", run, street / "images", "--out", "all")
    tinyseg("predict", run, street / "images" / "street_00000.png", f"{street}/images/*1.png", "--out", "some",
            "--probabilities", "--no-overlay")
    assert len(list((tmp_path / "all").glob("*_mask.png"))) == 8
    assert len(list((tmp_path / "all").glob("*_overlay.png"))) == 8
    assert {p.name for p in (tmp_path / "some").iterdir()} == {
        f"street_0000{i}_{what}" for i in (0, 1) for what in ("mask.png", "probabilities.npz")}
    mask = read_mask(tmp_path / "some" / "street_00000_mask.png")
    stored = np.load(tmp_path / "some" / "street_00000_probabilities.npz")
    assert stored["probabilities"].shape == (8, 32, 48)
    # float16 keeps three digits, so a near tie may fall the other way
    assert np.mean(stored["probabilities"].argmax(axis=0) == mask) > 0.99
    assert tuple(stored["classes"]) == StreetScenes.classes
    assert Image.open(tmp_path / "all" / "street_00000_mask.png").mode == "P"


def test_predict_in_tiles(tinyseg, run, street, tmp_path):
    tinyseg("predict", run, street / "images" / "street_00003.png", "--tile", 24, "--overlap", 8)
    assert read_mask(tmp_path / "predictions" / "street_00003_mask.png").shape == (32, 48)


def test_several_sizes_and_the_mirror(tinyseg, run, street, tmp_path):
    """Averaged probabilities are more careful: their cross-entropy is no larger than the mean of those averaged."""
    data = StreetScenes(4, (32, 48))
    *parts, together = (Predictor.load(run, views="flip", scales=scales).evaluate(data).cross_entropy
                        for scales in ((0.75,), (1,), (1.5,), (0.75, 1, 1.5)))
    assert together <= np.mean(parts)
    data.write(tmp_path / "data")
    found = tinyseg("evaluate", run, "--images", tmp_path / "data/images", "--masks", tmp_path / "data/masks", "--json",
                    "--scales", "0.75,1,1.5", "--flip")
    assert json.loads(found.stdout)["cross_entropy"] == pytest.approx(together, rel=1e-6)
    tinyseg("predict", run, street / "images" / "street_00003.png", "--scales", "0.5,1", "--flip")
    assert read_mask(tmp_path / "predictions" / "street_00003_mask.png").shape == (32, 48)
    for scales, message in (("big", "--scales big: needs numbers"), ("0", "above 0"),
                            ("0.05", r"scale 0\.05: .*size 2 in [HW]: needs at least 4")):
        assert re.search(message, wrong(tinyseg, "evaluate", run, "--scales", scales))


def test_resume_goes_on(tinyseg, run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    assert "4 steps" in tinyseg("train", "--resume", "--out", "copy").stdout


def test_info(tinyseg):
    assert "numba" in tinyseg("info").stdout
    found = json.loads(tinyseg("info", "--json").stdout)
    assert {"tinyseg", "python", "threads", "features", "cuda", "kernel cache"} <= found.keys()


def test_models(tinyseg):
    lines = tinyseg("models", "--size", 64).stdout.splitlines()
    assert re.match(r"fcn_resnet50 +35\.3 M +\d\.\d G +64x64 +8 +≤ 458 ", next(x for x in lines if "fcn_resnet50" in x))
    found = json.loads(tinyseg("models", "unet_paper", "--size", "190x200", "--json").stdout)
    assert (found["parameters"], found["input"]) == (31_033_045, [204, 204])
    told = tinyseg("models", "deeplab_v1", "--size", 33, "--layers").stdout
    for words in ("LargeFOV", "kernel=3, rate=12", "base.fov.fc6"):
        assert words in told
    assert "no model 'unit'" in wrong(tinyseg, "models", "unit")


def test_help_reads_like_documentation(tinyseg):
    text = tinyseg("train", "--help").stdout
    for word in ("Data", "Augmentation", "Loss and optimiser", "--resume", "bit for bit"):
        assert word in text


def wrong(tinyseg, *arguments):
    """What the command says in its one line; exit status 2, no traceback."""
    done = tinyseg(*arguments, status=2)
    lines = [line for line in done.stderr.splitlines() if "compiling" not in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("tinyseg: ")
    return lines[0]


@pytest.fixture
def folders(street, tmp_path):
    """A copy that a test may spoil."""
    shutil.copytree(street, tmp_path / "data")
    return tmp_path / "data"


def train(folders, *more):
    return ("train", "--images", folders / "images", "--masks", folders / "masks", *SMALL, *more)


def spoil(path, content=b""):
    path.write_bytes(content)


def test_bad_images_and_masks(tinyseg, folders):
    image, mask = folders / "images" / "street_00002.png", folders / "masks" / "street_00002.png"
    good_image, good_mask = image.read_bytes(), mask.read_bytes()
    for content in (b"", b"this is text", good_image[:200]):
        spoil(image, content)
        assert "street_00002.png" in wrong(tinyseg, *train(folders))
    image.write_bytes(good_image)
    mask.unlink()
    assert "street_00002" in wrong(tinyseg, *train(folders))
    Image.new("L", (9, 9)).save(mask)
    assert re.search(r"street_00002.*9", wrong(tinyseg, *train(folders)))
    mask.write_bytes(good_mask)
    assert re.search(r"label|value", wrong(tinyseg, *train(folders, "--num-classes", 3)))
    assert not (folders.parent / "runs").exists()    # nothing half-written


def test_no_images(tinyseg, folders, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in wrong(tinyseg, "train", "--images", "empty", "--masks", "empty")
    assert "nowhere" in wrong(tinyseg, "train", "--images", "nowhere", "--masks", "nowhere")
    assert "--masks" in wrong(tinyseg, "train", "--images", "empty")


def test_a_size_the_net_cannot_take(tinyseg, folders):
    assert re.search(r"at least 64", wrong(tinyseg, *train(folders, "--depth", 6)))
    assert re.search(r"nearest legal sizes|at least", wrong(tinyseg, *train(folders, "--padding", "valid",
                                                                             "--crop", 30)))


def test_a_net_with_options(tinyseg, folders):
    more = ("--batch-size", 1, "--steps", 1, "-o", "backbone=mobilenet_v2", "-o", "multi_grid=[1,1,1]")
    data = ("--images", folders / "images", "--masks", folders / "masks")
    assert re.search("batch of 1 .*--frozen-norm", wrong(tinyseg, "train", "deeplab_v3", *data, *more))
    assert not (folders.parent / "runs").exists()
    assert "report" in tinyseg("train", "deeplab_v3", *data, *more, "--frozen-norm", "--out", "frozen").stdout
    assert "lraspp: no option stride; legal: frozen_norm" in wrong(tinyseg, "train", "lraspp", *data, "-o", "stride=8")
    assert "NAME=VALUE" in wrong(tinyseg, "train", "lraspp", *data, "-o", "stride")
    assert "classifies" in wrong(tinyseg, "train", "resnet18", *data)


def test_a_run_folder_that_cannot_be(tinyseg, folders, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "file" in wrong(tinyseg, *train(folders, "--out", "file/run"))
    assert (tmp_path / "file").read_text() == "in the way"


def test_checkpoints_that_are_none(tinyseg, run, street, tmp_path):
    for content in (b"", b"not safetensors", (run / "best.safetensors").read_bytes()[:-100]):
        (tmp_path / "bad.safetensors").write_bytes(content)
        assert "bad.safetensors" in wrong(tinyseg, "predict", "bad.safetensors", street / "images")
        assert not (tmp_path / "predictions").exists()
    from safetensors.numpy import save_file
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "foreign.safetensors")
    assert "foreign.safetensors" in wrong(tinyseg, "predict", "foreign.safetensors", street / "images")
    assert "no-such" in wrong(tinyseg, "evaluate", "no-such")
    (tmp_path / "hollow").mkdir()
    assert "hollow" in wrong(tinyseg, "evaluate", "hollow")


def test_an_image_that_is_too_small_is_named(tinyseg, run, tmp_path):
    Image.new("RGB", (3, 9)).save(tmp_path / "tiny.png")
    assert re.search(r"tiny\.png: .*size 3 in W: needs at least 4", wrong(tinyseg, "predict", run, "tiny.png"))


def test_inputs_that_are_not_there(tinyseg, run):
    assert "nothing/*.png" in wrong(tinyseg, "predict", run, "nothing/*.png")


@pytest.mark.parametrize("arguments", [
    ("--loss", "guess"), ("--optimizer", "hope"), ("--schedule", "whenever"), ("--crop", "big"), ("--scale", "1"),
    ("--class-weights", "1,2"), ("--lr", "-1"), ("--steps", "0"), ("--norm", "instance"), ("--up", "sideways"),
    ("--group", "head"), ("--group", "nowhere:lr=2"), ("--milestones", "1.5"), ("--reduction", "most"),
    ("--preset", "book"), ("--street", "4", "--voc", "x"), ("--mask-encoding", "morse"), ("--val-fraction", "0"),
    ("--clip-norm", "0")])
def test_options_that_are_not_legal(tinyseg, folders, arguments, tmp_path):
    source = () if "--street" in arguments else train(folders)[1:]
    message = wrong(tinyseg, "train", *source, *arguments)
    assert "Traceback" not in message
    assert not (tmp_path / "runs").exists()


def test_debug_shows_the_traceback(tinyseg):
    assert "Traceback" in tinyseg("--debug", "evaluate", "no-such", status=1).stderr


@pytest.mark.parametrize(("options", "text"), [
    (("--loss", "dice", "--class-weights", "balanced"), "class_weights balanced with loss 'dice'"),
    (("--loss", "focal", "--label-smoothing", "0.1"), "label_smoothing 0.1 with loss 'focal'"),
    (("--loss", "ce+dice", "--reduction", "sum"), "Dice is no sum over pixels"),
    (("--precision", "low"), "precision 'low'; legal: highest, high, medium")])
def test_options_that_nothing_would_listen_to(tinyseg, options, text):
    done = tinyseg("train", "--street", 4, *SMALL, *options, status=2)
    assert text in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_preset_is_printed_and_what_is_given_wins(tinyseg, tmp_path):
    told = tinyseg("train", "deeplab_v1", "--preset", "paper", "--street", 4, "-o", "hidden=4", "--crop", 33,
                   "--steps", 1, "--batch-size", 2, "--momentum", 0.5, "--out", "run").stderr
    for words in ("paper of deeplab_v1: Chen et al., arXiv:1412.7062", "masks shrunk", "1 step of 2 images",
                  "crops of 33x33, flip 0.5", "learning rate 0.001, step after 0.333 and 0.667 of the run",
                  "momentum 0.5", "rate 0.02, weight decay 0: 8 in base.fov.fc8.bias"):
        assert words in told
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["steps"], config["batch_size"], config["augment"]["crop"]) == (1, 2, [33, 33])
    assert (config["optim"]["momentum"], config["optim"]["weight_decay"]) == (0.5, 5e-4)


def test_precision_is_chosen_and_kept(tinyseg, tmp_path):
    tinyseg("train", "--street", 4, *SMALL, "--precision", "medium", "--out", tmp_path / "rough")
    assert json.loads((tmp_path / "rough" / "config.json").read_text())["precision"] == "medium"
    assert "mean IoU" in tinyseg("evaluate", tmp_path / "rough", "--precision", "medium").stdout
