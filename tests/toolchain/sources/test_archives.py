"""Files of torch's, read without loading: their kind, and every name they would import."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.core.errors import ModelError
from edgewright.toolchain.sources import archives


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def _zip(**members):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"m/{name.replace('__', '/').replace('_dot_', '.')}", data)
    return held.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return one folder for files that are written over and over."""
    return tmp_path_factory.mktemp("archives")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_command_is_found_in_every_protocol(tmp_path, protocol):
    """Alone, in an archive, in an archive inside one; and it does not run."""
    data = pickle.dumps(OrderedDict(a=Evil(f"touch {tmp_path}/RAN")), protocol=protocol)
    inner = _zip(data_dot_pkl=data)

    for held in (data, inner, _zip(data__inner=inner, version="1")):
        (tmp_path / "m.pt").write_bytes(held)

        assert archives.imports(tmp_path / "m.pt") == (f"{os.name}.system",)
    assert not (tmp_path / "RAN").exists()


def test_machine_code_in_an_archive_is_named(tmp_path):
    """A compiled program would be loaded as a library."""
    (tmp_path / "m.pt2").write_bytes(_zip(data__aotinductor__model__x_dot_so=b"\x7fELF"))

    assert archives.imports(tmp_path / "m.pt2") == ("m/data/aotinductor/model/x.so",)


@settings(max_examples=30)
@given(
    st.recursive(
        st.integers() | st.text() | st.floats(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
    )
)
def test_plain_data_imports_nothing(place, value):
    """Numbers, texts, lists and tables name nothing."""
    path = place / "m.pt"
    path.write_bytes(pickle.dumps(value))

    assert archives.imports(path) == ()
    assert archives.kind_of(path) == archives.WEIGHTS


def test_the_kind_is_told_by_the_members(tmp_path):
    """TorchScript has code, a program has its graph."""
    path = tmp_path / "m.pt"
    for members, kind in (
        ({"code__x_dot_py": "", "data_dot_pkl": pickle.dumps(1)}, "torchscript"),
        ({"models__model_dot_json": "{}"}, "torch-export"),
        ({"data_dot_pkl": pickle.dumps(Evil("true"))}, "torch-pickle"),
        ({"data_dot_pkl": pickle.dumps({"a": 1})}, archives.WEIGHTS),
    ):
        path.write_bytes(_zip(**members))

        assert archives.kind_of(path) == kind


@pytest.mark.parametrize("data", [b"PK\x03\x04 cut short", b"\x80\x04\x95\x00", b"hello", b""])
def test_a_damaged_file_is_an_error_of_ours(tmp_path, data):
    """Cut short, or of another kind."""
    (tmp_path / "m.pt").write_bytes(data)

    with pytest.raises(ModelError):
        archives.kind_of(tmp_path / "m.pt")


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(place, data):
    """Whatever a file begins with."""
    path = place / "m.pt"
    path.write_bytes(b"\x80\x02" + data)

    with suppress(ModelError):
        archives.imports(path)
