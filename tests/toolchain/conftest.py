"""One optimised folder for many tests: making it takes some seconds."""

import shutil

import pytest
from tests.sim.models import write_data, write_model

from edgewright.core.contract import Contract
from edgewright.toolchain.recipe import Order, carry_out

# The model is so small that int8 may well be slower; what is chosen must not hang on it.
CONTRACT = Contract(
    accuracy_drop_bp=200, worst_class_drop_bp=600, file_bytes=60_000, p99_us=200_000
)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Return the inputs and the folder of a run that passed: model, data, order, events."""
    place = tmp_path_factory.mktemp("made")
    order = Order(
        model=write_model(place / "quarters.onnx"),
        data=write_data(place / "data.npz"),
        contract=CONTRACT,
        out=place / "out",
        goal="size",
        allow_slower=True,
    )
    events = []
    report = carry_out(order, observe=events.append)
    return order, report, events


@pytest.fixture
def folder(made, tmp_path):
    """Return a copy of the optimised folder, to do with as one likes."""
    shutil.copytree(made[0].folder, tmp_path / "out")
    return tmp_path / "out"
