"""What one process is asked to make, and how it says what came of it.

The makers run in environments of other tools: beside their own library they know numpy,
the standard library and this file, nothing of edgewright.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Feed = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Job:
    """One variant of one model.

    Attributes:
        variant: What to make; a name in the maker's table.
        model: The float model, an ONNX file.
        samples: The npz file with calibration samples, by input.
        out: An empty folder to write into.
        transformer: Whether the model is one; some tools want to be told.
        mask: The input that is 1 on words; a sample is cut where they end. Empty if none.
        pairs_overflow: Whether kernels of this processor need weights of 7 bits.
    """

    variant: str
    model: Path
    samples: Path
    out: Path
    transformer: bool
    mask: str
    pairs_overflow: bool

    @classmethod
    def read(cls, path: Path) -> "Job":
        """Return the job in the JSON file ``path``."""
        held = json.loads(path.read_text())
        return cls(**held | {key: Path(held[key]) for key in ("model", "samples", "out")})

    def arrays(self) -> Feed:
        """Return all samples, first dimension the sample."""
        with np.load(self.samples) as held:
            return {name: held[name] for name in held.files}

    def feeds(self) -> list[Feed]:
        """Return the samples one by one, each a batch of one."""
        arrays = self.arrays()
        count = len(next(iter(arrays.values())))
        return [
            cut({n: a[i : i + 1] for n, a in arrays.items()}, self.mask) for i in range(count)
        ]


class Reader:
    """The samples as ONNX Runtime's tools and their kin read them."""

    def __init__(self, feeds: list[Feed]) -> None:
        self._feeds = feeds
        self._left = iter(feeds)

    def __len__(self) -> int:
        return len(self._feeds)

    def get_next(self) -> Feed | None:
        """Return the next sample, None after the last."""
        return next(self._left, None)

    def rewind(self) -> None:
        """Begin anew."""
        self._left = iter(self._feeds)


Maker = Callable[[Job], list[Path]]


def cut(feed: Feed, mask: str) -> Feed:
    """Return a batch of one without what is padded, when ``mask`` names the mask."""
    if not mask:
        return feed
    length = int(feed[mask].sum())
    return {name: array[:, :length] for name, array in feed.items()}


def carry_out(makers: Mapping[str, Maker], packages: list[str]) -> int:
    """Make what the file named by the only argument asks; print one line of JSON.

    Args:
        makers: What makes each variant and returns the files a device would get.
        packages: Whose versions are told.
    """
    job = Job.read(Path(sys.argv[1]))
    told: dict[str, Any] = {"versions": {name: metadata.version(name) for name in packages}}
    began = time.perf_counter()
    try:
        told["files"] = [str(path) for path in makers[job.variant](job)]
    except Exception as error:  # noqa: BLE001  the process's outermost line: it reports
        traceback.print_exc()
        first = next(iter(str(error).strip().splitlines()), "")
        told["failed"] = f"{type(error).__name__}: {first}"
    told["seconds"] = time.perf_counter() - began
    print("\n" + json.dumps(told), flush=True)
    return 0
