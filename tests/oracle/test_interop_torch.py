"""Files that PyTorch itself wrote, and ours in PyTorch's hands."""

import io
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch_files import STORAGES, data_of, dict_of, one_tensor, storage, stream_file, tar_file, tensor, text

from tinyseg import models
from tinyseg.errors import CheckpointError
from tinyseg.interop import read_weights, write_weights

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.oracle

DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "uint16",
          "uint32", "uint64"]
NEW = pytest.mark.parametrize("new", [True, False], ids=["zip", "stream"])


def as_numpy(value):
    value = value.detach()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def assert_same(found, state):
    assert list(found.arrays) == list(state)
    for name, value in state.items():
        expected = as_numpy(value)
        np.testing.assert_array_equal(found.arrays[name], expected)
        assert found.arrays[name].dtype == expected.dtype
        assert found.arrays[name].shape == expected.shape
        assert f"torch.{found.dtypes[name]}" == str(value.dtype)


@NEW
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type(tmp_path, dtype, new):
    values = torch.tensor([[0, 1, 2], [3, 100, 127]]).to(getattr(torch, dtype))
    state = {"whole": values, "view": values[:, 1:], "turned": values.T, "one": values[1, 2]}
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    assert_same(read_weights(tmp_path / "x.pth"), state)


@NEW
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_training_checkpoint(tmp_path, new, protocol):
    net = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.randn(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    torch.save({"state_dict": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "best": 0.5},
               tmp_path / "x.pth", _use_new_zipfile_serialization=new, pickle_protocol=protocol)
    found = read_weights(tmp_path / "x.pth")
    assert_same(found, net.state_dict())
    assert found.key == "state_dict"
    assert found.notes == {"epoch": 3, "best": 0.5}


@NEW
def test_parameters_and_tied_weights(tmp_path, new):
    p = torch.nn.Parameter(torch.randn(4, 3))
    state = OrderedDict(a=p, b=p.data, c=p.data.view(-1)[3:6], d=torch.zeros(1).expand(5))
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    assert_same(read_weights(tmp_path / "x.pth"), state)


@NEW
def test_a_whole_net_is_refused(tmp_path, new):
    torch.save(torch.nn.Conv2d(1, 1, 1), tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.conv\.Conv2d, which is not built"):
        read_weights(tmp_path / "x.pth")


def test_a_torchscript_program_is_refused(tmp_path):
    torch.jit.script(torch.nn.Conv2d(1, 1, 1)).save(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="a TorchScript program, not weights"):
        read_weights(tmp_path / "x.pt")


@st.composite
def states(draw):
    """Tensors of any type and layout under any names."""
    state = {}
    for name in draw(st.lists(st.text(st.characters(codec="utf-8"), max_size=8), max_size=4, unique=True)):
        shape = draw(st.lists(st.integers(0, 4), max_size=4))
        value = torch.randint(0, 100, shape).to(getattr(torch, draw(st.sampled_from(DTYPES[:10]))))
        if shape:
            value = value.permute(draw(st.permutations(range(len(shape)))))
            value = value[draw(st.integers(0, value.shape[0])):]
        state[name] = value
    return state


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(state=states(), new=st.booleans())
def test_any_state_that_torch_writes(tmp_path, state, new):
    if not state:
        return
    out = io.BytesIO()
    torch.save(state, out, _use_new_zipfile_serialization=new)
    (tmp_path / "x.pth").write_bytes(out.getvalue())
    assert_same(read_weights(tmp_path / "x.pth"), state)


@pytest.mark.parametrize("kind", ["zip", "stream", "tar"])
@pytest.mark.parametrize("dtype", STORAGES)
def test_files_put_together_by_hand_are_what_torch_reads(tmp_path, kind, dtype):
    """So that the tests without PyTorch speak of its formats and not of ours; among them the oldest, which it no
    longer writes."""
    (tmp_path / "x.pth").write_bytes(one_tensor(kind, [[0, 1, 2], [3, 4, 127]], dtype))
    assert_same(read_weights(tmp_path / "x.pth"), load(tmp_path / "x.pth"))


def test_views_put_together_by_hand(tmp_path):
    data = data_of(range(12), "float32")
    view = tensor(storage("0", "float32", 12, kind="stream"), (2, 3), (1, 4), 2)
    part = tensor(storage("0", "float32", 12, b"(" + text("1") + b"K\2K\5t", "stream"), (2,), (2,), 1)
    tar = tar_file(dict_of({"x": text("7") + b"Q", "y": text("8") + b"Q"}), {5: ("float32", 12, data)},
                   {7: (5, "float32", (2, 3), (1, 4), 2), 8: (6, "float32", (2,), (2,), 1)}, views=[(6, 5, 2, 5)])
    for file in (stream_file(dict_of({"x": view, "y": part}), {"0": (12, data)}), tar):
        (tmp_path / "x.pth").write_bytes(file)
        assert_same(read_weights(tmp_path / "x.pth"), load(tmp_path / "x.pth"))


def load(path):
    return torch.load(path, weights_only=False, map_location="cpu")


# -- what we write -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != "bfloat16"])
def test_torch_loads_what_we_write(tmp_path, dtype, mmap):
    state = {"a": np.arange(6).reshape(2, 3).astype(dtype), "one": np.array(1, dtype), "none": np.ones((2, 0), dtype),
             "turned": np.arange(6).reshape(2, 3).astype(dtype).T, "Straße/空": np.ones(1, dtype)}
    write_weights(tmp_path / "x.pth", state)
    found = torch.load(tmp_path / "x.pth", weights_only=True, mmap=mmap)
    assert isinstance(found, OrderedDict)
    assert list(found) == list(state)
    for name, array in state.items():
        assert str(found[name].dtype) == f"torch.{dtype}"
        np.testing.assert_array_equal(found[name].numpy(), array)
        assert found[name].shape == array.shape


def test_a_net_goes_there_and_back(tmp_path):
    ours = models.build("unet", 3, 2, base_channels=2)
    write_weights(tmp_path / "ours.pth", ours.state_dict())
    theirs = torch.load(tmp_path / "ours.pth", weights_only=True)
    torch.save(theirs, tmp_path / "theirs.pth")
    back = read_weights(tmp_path / "theirs.pth").arrays
    assert all(np.array_equal(back[name], array) for name, array in ours.state_dict().items())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(state=st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), st.sampled_from(
    [d for d in DTYPES if d != "bfloat16"]).flatmap(lambda d: arrays(d, array_shapes(min_dims=0, min_side=0,
                                                                                   max_side=4))), max_size=4))
def test_torch_loads_any_state(tmp_path, state):
    write_weights(tmp_path / "x.pth", state)
    found = torch.load(tmp_path / "x.pth", weights_only=True)
    assert list(found) == list(state)
    assert all(np.array_equal(found[name].numpy(), a, equal_nan=a.dtype.kind == "f") for name, a in state.items())
