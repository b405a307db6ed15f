"""A run that is interrupted, however rudely, ends with the weights of one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tinyseg.checkpoint import load_checkpoint
from tinyseg.errors import CheckpointError, DataError, Interrupted, TrainingError
from tinyseg.training import (
    AugmentConfig,
    Config,
    DataConfig,
    Listener,
    ModelConfig,
    OptimConfig,
    resume,
    train,
)


def small(**changes):
    """Everything that could break exactness: shuffling, augmentation, dropout, momentum, groups, accumulation,
    warm-up."""
    values = {"data": DataConfig(count=10, val_count=2, size=(32, 32)),
              "augment": AugmentConfig(flip=0.5, rotate=10, color=0.3, crop=(24, 24)),
              "model": ModelConfig("unet", {"base_channels": 4, "depth": 2, "dropout": 0.3}),
              "optim": OptimConfig("adamw", learning_rate=1e-2, warmup=3, clip_norm=1.0,
                                   groups=("^outc:lr=10", "bias$:lr=2,decay=0")),
              "steps": 12, "batch_size": 3, "accumulate": 2, "evaluate_every": 4, "checkpoint_every": 2,
              "statistics": 2}
    return Config(**(values | changes))


class StopAt(Listener):
    """Presses Ctrl-C after some steps."""

    def __init__(self, *steps):
        self.steps = steps

    def stepped(self, row, best):
        if row["step"] in self.steps:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    train(small(), folder)
    return folder


def assert_same_end(folder, other):
    for name in ("last.safetensors", "best.safetensors"):
        (a, about_a), (b, about_b) = load_checkpoint(folder / name), load_checkpoint(other / name)
        assert a.keys() == b.keys()
        for key in a:
            assert a[key].tobytes() == b[key].tobytes(), key
        assert about_a["step"] == about_b["step"]
    rows = [[line.split(",")[:4] + line.split(",")[5:] for line in (f / "metrics.csv").read_text().splitlines()]
            for f in (folder, other)]                # images_per_second is the only thing that may differ
    assert rows[0] == rows[1]


def test_a_run_is_deterministic(whole, tmp_path):
    train(small(), tmp_path)
    assert_same_end(whole, tmp_path)


@pytest.mark.parametrize("steps", [(1,), (4, 5, 11)])
def test_ctrl_c_saves_and_resumes_exactly(whole, tmp_path, steps):
    with pytest.raises(Interrupted, match=f"step {steps[0]} of 12"):
        train(small(), tmp_path, StopAt(*steps))
    for step in steps[1:]:
        with pytest.raises(Interrupted, match=f"step {step} of 12"):
            resume(tmp_path, StopAt(*steps))
    resume(tmp_path)
    assert_same_end(whole, tmp_path)


def test_kill_9_at_any_moment_resumes_exactly(whole, tmp_path):
    config = small()
    script = ("import sys, pathlib\n"
              "from tinyseg.training import Config, resume, train\n"
              "folder = pathlib.Path(sys.argv[1])\n"
              "resume(folder) if (folder / 'config.json').exists() else "
              "train(Config.from_dict(__import__('json').loads(sys.argv[2])), folder)\n")
    folder = tmp_path / "run"
    patience = random.Random(0)
    kills = 0
    for attempt in range(40):
        process = subprocess.Popen([sys.executable, "-c", script, str(folder), config.to_json()],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        began = time.monotonic()
        # Kill soon after a change of the folder: in the middle of writing, evaluating or stepping.
        before = _stamp(folder)
        while process.poll() is None and _stamp(folder) == before and time.monotonic() - began < 60:
            time.sleep(0.005)
        if attempt < 6 and process.poll() is None:
            time.sleep(patience.random() * 0.15)
            process.kill()
            kills += 1
        process.wait()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stderr.read().decode()
    assert kills > 0
    assert_same_end(whole, folder)
    assert {p.name for p in folder.iterdir()} == {p.name for p in whole.iterdir()}       # nothing half-written stays


def _stamp(folder):
    return {(p.name, p.stat().st_mtime_ns) for p in folder.glob("*.safetensors")} if folder.exists() else set()


def test_what_a_killed_writer_left_is_removed(whole, tmp_path):
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / ".last.safetensors.abc.part").write_bytes(b"half")
    resume(tmp_path)
    assert not (tmp_path / ".last.safetensors.abc.part").exists()


def test_resuming_a_finished_run_reports_again(whole):
    before = (whole / "last.safetensors").read_bytes()
    assert resume(whole).steps == 12
    assert (whole / "last.safetensors").read_bytes() == before


def test_best_holds_the_net_alone(whole):
    state, about = load_checkpoint(whole / "best.safetensors")
    assert not any(key.startswith("optimizer/") for key in state)
    assert about["classes"][0]
    assert json.loads((whole / "config.json").read_text())["steps"] == 12


def test_a_loss_that_is_not_finite_stops_with_step_rate_and_checkpoint(tmp_path):
    with pytest.raises(TrainingError, match=r"step \d+, learning rate .*last.safetensors"):
        train(small(optim=OptimConfig("sgd", learning_rate=1e30, schedule="constant", momentum=0.0)), tmp_path)
    state, _ = load_checkpoint(tmp_path / "last.safetensors")
    assert all(np.isfinite(v).all() for v in state.values() if v.dtype.kind == "f")


def test_a_run_is_not_overwritten_unasked(whole):
    with pytest.raises(TrainingError, match="--resume"):
        train(small(), whole)


def test_one_run_at_a_time_in_a_folder(whole, tmp_path):
    class Second(Listener):
        """Tries to train in the same folder while the first run is at it."""

        def stepped(self, row, best):
            for start in (lambda: train(small(), tmp_path, overwrite=True), lambda: resume(tmp_path)):
                with pytest.raises(TrainingError, match="another process is training there"):
                    start()

    train(small(), tmp_path, Second())
    assert_same_end(whole, tmp_path)


def test_resume_without_a_run(tmp_path):
    with pytest.raises(DataError, match=r"config\.json"):
        resume(tmp_path)


def test_resume_with_other_data(whole, tmp_path):
    for name in ("last.safetensors", "metrics.csv"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    (tmp_path / "config.json").write_text(small(data=DataConfig(count=11, val_count=2, size=(32, 32))).to_json())
    with pytest.raises(CheckpointError, match="10 training images, now there are 11"):
        resume(tmp_path)


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b"", lambda b: b[:99] + b"x" + b[100:]])
def test_resume_from_a_damaged_checkpoint(whole, tmp_path, damage):
    for name in ("config.json", "metrics.csv"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    (tmp_path / "last.safetensors").write_bytes(damage((whole / "last.safetensors").read_bytes()))
    with pytest.raises(CheckpointError, match=r"last\.safetensors"):
        resume(tmp_path)


def test_a_config_comes_back_as_it_went(whole):
    assert Config.read(whole / "config.json") == small()
