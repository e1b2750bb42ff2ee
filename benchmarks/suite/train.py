# /// script
# requires-python = ">=3.11"
# dependencies = ["edgewright[torch]"]
# ///
"""Train the models of the suite anew: all of them, or those that are named.

``python benchmarks/suite/train.py [--out FOLDER] [NAME ...]`` writes one ONNX file a
model and prints its row for ``ROWS`` and ``README.md``. One thread and fixed seeds make a
run repeatable on one machine.
"""

import argparse
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.suite import MODELS, ROWS, Row, cost, networks
from benchmarks.suite.answers import answers_of
from benchmarks.suite.data import Samples

from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.load import load

OPSET = 18
BATCH = 64
MAX_PARITY_ERROR = 2e-3

Loss = Callable[[nn.Module, list[Tensor], dict[str, Tensor]], Tensor]


@dataclass(frozen=True, slots=True)
class Plan:
    """How one model is trained.

    Attributes:
        network: Makes the untrained network, given the training samples.
        epochs: Passes over the training samples; >= 1.
        outputs: What the answers are called in the file.
        learning_rate: The largest; it rises for a third of the steps and falls to 0.
        loss: What is made small.
    """

    network: Callable[[Samples], nn.Module]
    epochs: int
    outputs: tuple[str, ...] = ("logits",)
    learning_rate: float = 3e-3
    loss: Loss = networks.cross_entropy


PLANS = {
    "mlp": Plan(networks.mlp, epochs=15),
    "lenet": Plan(networks.lenet, epochs=6, learning_rate=1e-3),
    "resnet": Plan(networks.resnet, epochs=4),
    "mobilenet": Plan(networks.mobilenet, epochs=3),
    "detector": Plan(
        networks.detector, epochs=8, outputs=("boxes", "scores"), loss=networks.detecting
    ),
    "unet": Plan(networks.unet, epochs=4),
    "keyword": Plan(networks.keyword_net, epochs=4),
    "heartbeat": Plan(networks.heartbeat_net, epochs=8),
    "autoencoder": Plan(
        networks.autoencoder, epochs=15, outputs=("again",), loss=networks.restoring
    ),
    "gru": Plan(networks.gru, epochs=10),
    "transformer-padded": Plan(networks.transformer, epochs=5, learning_rate=1.5e-3),
}


def fit(plan: Plan, samples: Samples) -> nn.Module:
    """Return the network of ``plan`` trained on ``samples``, in eval mode."""
    torch.manual_seed(0)
    model = plan.network(samples)
    inputs = [torch.from_numpy(array) for array in samples.inputs.values()]
    targets = {name: torch.from_numpy(array) for name, array in samples.targets.items()}
    steps = plan.epochs * (len(samples) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan.learning_rate, total_steps=steps
    )

    model.train()
    for epoch in range(plan.epochs):
        total, order = 0.0, torch.randperm(len(samples))
        for rows in order[: len(order) // BATCH * BATCH].view(-1, BATCH):
            fed = [array[rows] for array in inputs]
            loss = plan.loss(model, fed, {name: t[rows] for name, t in targets.items()})
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"  pass {epoch + 1} of {plan.epochs}: loss {total * BATCH / len(order):.4f}")
    return model.eval()


def export(model: nn.Module, samples: Samples, outputs: tuple[str, ...]) -> Graph:
    """Return ``model`` as a checked graph that names nothing of this machine."""
    example = tuple(torch.from_numpy(array[:3]) for array in samples.inputs.values())
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        # The exporter's own dependencies warn about themselves.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            example,
            input_names=list(samples.inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple({0: batch} for _ in example),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        if program is None:
            raise RuntimeError("the exporter returned no program")
        path = Path(folder) / "model.onnx"
        path.write_bytes(program.model_proto.SerializeToString())
        return load(path)


def check_parity(model: nn.Module, path: Path, samples: Samples) -> None:
    """Compare the file with torch on some samples.

    Raises:
        RuntimeError: An answer is further away than ``MAX_PARITY_ERROR``.
    """
    few = Samples({name: array[:200] for name, array in samples.inputs.items()}, {})
    with torch.no_grad():
        expected = model(*(torch.from_numpy(array) for array in few.inputs.values()))
    found = list(answers_of(path, few).values())
    tensors = [expected] if isinstance(expected, Tensor) else list(expected)
    error = max(
        float(np.abs(a - t.numpy()).max()) for a, t in zip(found, tensors, strict=True)
    )
    if not error <= MAX_PARITY_ERROR:
        raise RuntimeError(f"{path.name} is {error:.1e} away from torch")


def train(row: Row, out: Path) -> str:
    """Write the model of ``row`` into ``out`` and return what the table says of it."""
    started = time.monotonic()
    plan, samples = PLANS[row.name], row.samples("train")
    model = fit(plan, samples)
    minutes = (time.monotonic() - started) / 60
    graph = export(model, samples, plan.outputs)
    path = out / row.model_file
    path.write_bytes(graph.to_bytes())
    held_out = row.samples("evaluate")
    check_parity(model, path, held_out)
    points = row.points(answers_of(path, held_out), held_out)
    return (
        f"{row.name}: float_points={points:.2f}, parameters={cost.parameters(graph)}, "
        f"mflop={cost.mflop(graph):.2f}, train_minutes={minutes:.1f}, "
        f"{path.stat().st_size:,} bytes; {dict(graph.operators)}"
    )


def main() -> None:
    """Train what was named, everything by default."""
    parser = argparse.ArgumentParser(description="Train the models of the suite.")
    parser.add_argument("names", nargs="*", default=[], help=", ".join(PLANS))
    parser.add_argument("--out", type=Path, default=MODELS, help="where to write")
    args = parser.parse_args()
    if unknown := set(args.names) - set(PLANS):
        parser.error(f"no model {', '.join(sorted(unknown))}; there are {', '.join(PLANS)}")
    args.out.mkdir(parents=True, exist_ok=True)

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    ort.set_default_logger_severity(3)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    for row in ROWS:
        if row.name in (args.names or PLANS):
            print(train(row, args.out), flush=True)


if __name__ == "__main__":
    main()
