"""A folder has one claimant at a time, and a dead one does not count."""

import subprocess
import sys

import pytest

from tinyseg.errors import DataError
from tinyseg.files import claimed

HOLD = ("import sys, pathlib, time\nfrom tinyseg.files import claimed\n"
        "with claimed(pathlib.Path(sys.argv[1])) as alone:\n    print(alone, flush=True)\n    time.sleep(60)\n")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no lock on folders there")


def test_one_at_a_time(tmp_path):
    with claimed(tmp_path / "a") as first, claimed(tmp_path / "a") as second, claimed(tmp_path / "b") as other:
        assert (first, second, other) == (True, False, True)
    with claimed(tmp_path / "a") as again:
        assert again


def test_the_claim_of_a_killed_process_ends_with_it(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        with claimed(tmp_path) as alone:
            assert not alone
        process.kill()
        process.wait()
        with claimed(tmp_path) as alone:
            assert alone
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_does_not_stay(tmp_path):
    with claimed(tmp_path / "new" / "run") as alone:
        assert alone
        assert (tmp_path / "new" / "run").is_dir()
    assert not (tmp_path / "new").exists()
    with claimed(tmp_path / "new" / "run"):
        (tmp_path / "new" / "run" / "config.json").touch()
    assert (tmp_path / "new" / "run" / "config.json").exists()


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file.*cannot be written"), claimed(tmp_path / "file" / "run"):
        pass
