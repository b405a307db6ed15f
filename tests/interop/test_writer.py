import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tinyseg import models
from tinyseg.errors import ArgumentError, DataError, DTypeError
from tinyseg.interop import read_weights, write_weights

SUFFIXES = [".pth", ".pt", ".th", ".safetensors", ".npz"]
DTYPES = ["bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
          "uint64", ">f4"]
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).filter(
    lambda name: name != "__metadata__")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffix=st.sampled_from([".pth", ".safetensors", ".npz"]), turned=st.booleans(), state=st.dictionaries(
    NAMES, st.sampled_from(DTYPES).flatmap(lambda d: arrays(d, array_shapes(min_dims=0, max_dims=4, min_side=0,
                                                                          max_side=4))), min_size=1, max_size=4))
def test_any_state_comes_back(tmp_path, suffix, turned, state):
    state = {name: a.T if turned else a for name, a in state.items()}
    path = tmp_path / f"x{suffix}"
    write_weights(path, state)
    found = read_weights(path)
    assert set(found.arrays) == set(state)
    for name, array in state.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].shape == array.shape
        assert found.dtypes[name] == array.dtype.name


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_net(tmp_path, suffix):
    net, other = (models.build("unet", 1, 2, base_channels=2) for _ in range(2))
    write_weights(tmp_path / f"net{suffix}", net.state_dict())
    other.load_state_dict(read_weights(tmp_path / f"net{suffix}").arrays)
    assert all(np.array_equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(),
                                                    strict=True))


def test_tensors_and_parameters(tmp_path):
    net = models.build("unet", 1, 2, base_channels=2)
    write_weights(tmp_path / "net.pth", dict(net.named_parameters()))
    np.testing.assert_array_equal(read_weights(tmp_path / "net.pth").arrays["outc.conv.bias"], net.outc.conv.bias.data)


@pytest.mark.parametrize(("name", "state", "error", "fact"), [
    ("x.bin", {}, ArgumentError, r"suffix '.bin'; legal: .pth"), ("x", {}, ArgumentError, "suffix ''"),
    ("x.pth", {"a": np.zeros(1, complex)}, DTypeError, "a is complex128; legal: float32"),
    ("x.pth", {1: np.zeros(1)}, ArgumentError, "a name is 1; needs text"),
    ("file/x.pth", {"a": np.zeros(1)}, DataError, "cannot be written")])
def test_what_cannot_be_written(tmp_path, name, state, error, fact):
    (tmp_path / "file").write_text("")
    with pytest.raises(error, match=fact) as caught:
        write_weights(tmp_path / name, state)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
