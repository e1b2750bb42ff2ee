"""Networks of torch to bring in, good ones and bad ones; copied beside a test and imported.

``write`` makes files of them, in every form a model is given in, all with one set of
weights, which is not the one ``Net`` has when made. ``told.npy`` is what torch answers
with it to ``images.npy``. A planted command leaves a file behind: ``RAN`` names it.
"""

import os
import pickle
import time
import zipfile
from pathlib import Path

import numpy as np
import torch

SIDE, CLASSES = 8, 5
RAN = "RAN"


class Net(torch.nn.Module):
    """From ``image`` float32 (batch, 1, 8, 8) to five scores."""

    def __init__(self, width=4, seed=7):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = torch.nn.Conv2d(1, width, 3)
        self.head = torch.nn.Linear(width * 36, CLASSES)

    def forward(self, image):
        """Answer."""
        return self.head(torch.relu(self.conv(image)).flatten(1))


class Fixed(Net):
    """Takes one row and fails with more."""

    def forward(self, image):
        """Answer."""
        return self.head(torch.relu(self.conv(image)).reshape(1, -1))


class Special(Net):
    """Takes any batch, and makes an exporter take one for granted."""

    def forward(self, image):
        """Answer."""
        count = int(image.shape[0])
        shift = torch.arange(count).to(image.dtype).reshape(count, 1)
        return super().forward(image) + shift


class Branch(Net):
    """Answers otherwise when there are more than two rows, which no exporter sees."""

    def forward(self, image):
        """Answer."""
        return super().forward(image) + (1 if image.shape[0] > 2 else 0)


class Asks(Net):
    """Looks at values, which torch.export refuses and a trace does not notice."""

    def forward(self, image):
        """Answer."""
        told = super().forward(image)
        return told * 2 if float(told.abs().sum()) >= 0 else told


class Namesake(torch.nn.Module):
    """Answers under the name that an exporter gives to what is inside."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(10, 4)
        self.last = torch.nn.Linear(4, 3)

    def forward(self, words):
        """Return the mean of the words' vectors."""
        return {"embedding": self.last(self.table(words)).mean(1)}


class Pair(torch.nn.Module):
    """Two inputs with a free axis in common, two named outputs."""

    def forward(self, left, right):
        """Answer."""
        return {"sum": left + right, "mean": (left * right).mean(1)}


def text():
    """Make something else."""
    return "a net"


def wants(width):
    """Make one of a width that has to be said."""
    return Net(width)


def crash():
    """End the process."""
    os._exit(3)


def sleep():
    """Say who is asleep, and stay so."""
    Path("asleep").write_text(str(os.getpid()))
    time.sleep(600)


def wordy():
    """Print where the answers travel."""
    print('{"model": "not this"}')  # noqa: T201  what a test is about
    return Net()


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, (f"touch {RAN}",)


def write(folder):
    """Write every file below ``folder``."""
    from safetensors.torch import save_file  # noqa: PLC0415  where only this is run

    net = Net(seed=8).eval()
    images = torch.randn(9, 1, SIDE, SIDE)
    np.save(folder / "images.npy", images.numpy())
    np.save(folder / "told.npy", net(images).detach().numpy())
    example = torch.zeros(2, 1, SIDE, SIDE)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(net, (example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, folder / "net.pt2")
    torch.export.save(torch.export.export(net, (example[:1],)), folder / "one.pt2")
    few = torch.export.Dim("few", min=1, max=2)
    program = torch.export.export(net, (example,), dynamic_shapes=({0: few},))
    torch.export.save(program, folder / "few.pt2")
    torch.jit.save(torch.jit.trace(net, example), folder / "script.pt")
    state = net.state_dict()
    save_file(state, folder / "net.safetensors")
    torch.save(state, folder / "net.pt")
    torch.save({"state_dict": state, "epoch": 3}, folder / "checkpoint.pt")
    torch.save(net, folder / "whole.pt")
    save_file(Net(width=2).state_dict(), folder / "narrow.safetensors")
    bias = "head.bias"
    save_file({k: v for k, v in state.items() if k != bias}, folder / "less.safetensors")
    save_file({**state, "extra": torch.zeros(3)}, folder / "more.safetensors")
    torch.save({**state, "evil": Evil()}, folder / "evil.pt")
    _plant(folder / "net.pt2", folder / "evil.pt2")


def _plant(good, evil):
    """Write a program whose sample inputs are a pickle that runs a command."""
    whole = good.with_name("sample.pickle")
    torch.save(((Evil(),), {}), whole)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(evil, "w") as target:
        for info in source.infolist():
            sample = info.filename.endswith("sample_inputs/model.pt")
            data = whole.read_bytes() if sample else source.read(info)
            target.writestr(zipfile.ZipInfo(info.filename), data)
        name = source.namelist()[0].partition("/")[0]
        target.writestr(f"{name}/data/constants/opaque_obj_0", pickle.dumps(Evil()))
