import subprocess
import sys

import pytest

from tinyseg.data import StreetScenes


@pytest.fixture
def tinyseg(tmp_path):
    """Run the command line in a folder of its own, as a user would."""
    def call(*arguments, status=0, timeout=120):
        done = subprocess.run([sys.executable, "-c", "from tinyseg.cli import main; main()", *map(str, arguments)],
                              cwd=tmp_path, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == status, done.stdout + done.stderr
        return done
    return call


@pytest.fixture(scope="session")
def street(tmp_path_factory):
    """Folders of eight small street scenes."""
    folder = tmp_path_factory.mktemp("street")
    StreetScenes(8, (32, 48)).write(folder)
    return folder


SMALL = ("--base-channels", 4, "--depth", 2, "--batch-size", 2, "--steps", 4)
