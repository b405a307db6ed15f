"""Work shared among threads: done once, raised here, and leaving nothing behind."""

import os
import subprocess
import sys
import threading

import pytest

from tinyseg.kernels.cpu.threads import _blas, in_parallel


def blas_threads():
    return [library.num_threads for library in _blas().lib_controllers if library.user_api == "blas"]


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_every_item_is_done_once(count):
    done = []
    in_parallel(done.append, range(count))
    assert sorted(done) == list(range(count))


def test_an_error_in_any_item_is_raised():
    with pytest.raises(ZeroDivisionError):
        in_parallel(lambda item: 1 / item, [3, 2, 1, 0])


def test_blas_gets_its_threads_back_though_calls_overlap():
    before, meanwhile = blas_threads(), []
    entered, left = threading.Event(), threading.Event()

    def outlast(_):
        entered.set()
        left.wait()
        meanwhile.extend(blas_threads())

    other = threading.Thread(target=in_parallel, args=(outlast, [0]))
    in_parallel(lambda _: (other.start(), entered.wait()), [0])          # the other enters, and this call ends first
    left.set()
    other.join()
    assert set(meanwhile) <= {1}
    assert blas_threads() == before


FORKED = """
import os, warnings
from tinyseg.kernels.cpu.threads import in_parallel
warnings.simplefilter("ignore")                      # that forking with threads is risky
done = []
in_parallel(done.append, range(50))
child = os.fork()
if child == 0:
    in_parallel(done.append, range(50))
    os._exit(0 if len(done) == 100 else 1)
raise SystemExit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_threads_of_its_own():
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=60)
