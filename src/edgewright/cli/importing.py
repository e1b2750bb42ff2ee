"""``edgewright import``: from a framework's model to ONNX that answers like it."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright.cli import output
from edgewright.core.errors import UsageError
from edgewright.core.units import parse_duration_us, show_bytes

if TYPE_CHECKING:
    from edgewright.toolchain.ir.graph import Graph
    from edgewright.toolchain.sources import Brought, Wish

NAME = "import"
HELP = "make ONNX of a model, and check that it answers like its source"


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="ONNX, .pt2, package.module:callable, TorchScript .pt, a transformers folder, "
        "a TensorFlow SavedModel, .keras, .h5 or .tflite",
    )
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE.onnx", help="default <name of MODEL>.onnx"
    )
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    parser.add_argument(
        "--data", type=Path, metavar="FILE.npz", help="real inputs to check parity on"
    )
    add_wish(parser)


def add_wish(parser: argparse._ActionsContainer) -> None:
    """Add the arguments that ``read_wish`` reads."""
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="for a callable: .safetensors or .pt"
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME:TYPE:SHAPE",
        help="what it is fed, like image:float32:-1x3x224x224; -1 or a word is a free axis",
    )
    parser.add_argument(
        "--freeze",
        action="append",
        default=[],
        metavar="AXIS=N,...",
        help="fix free axes: batch=1, a name like seq=128, or INPUT:AXIS=N",
    )
    parser.add_argument(
        "--keep-dynamic", action="store_true", help="let axes beside the batch stay free"
    )
    parser.add_argument(
        "--opset", type=int, metavar="N", help="to write; default what the exporter prefers"
    )
    parser.add_argument(
        "--trust-pickle", action="store_true", help="load files that may run any code"
    )
    parser.add_argument(
        "--timeout", default="10m", metavar="TIME", help="for each answer of a framework"
    )
    parser.add_argument(
        "--tf-python",
        type=Path,
        metavar="PYTHON",
        help="interpreter with tensorflow and tf2onnx; default $EDGEWRIGHT_TF_PYTHON",
    )


def run(args: argparse.Namespace) -> int:
    """Import, and say what came of it."""
    from edgewright.core import durable
    from edgewright.toolchain.ir.load import load
    from edgewright.toolchain.sources import bring

    out = args.out or Path(f"{_stem(args.model)}.onnx")
    if out.is_dir():
        raise UsageError(f"{out} is a folder", hint="Name the file: -o FILE.onnx.")
    if out.exists() and not args.force:
        raise UsageError(f"{out} is there already", hint="Give --force to overwrite it.")
    wish = read_wish(args, args.data)
    with (
        output.status(args, f"importing {args.model}"),
        tempfile.TemporaryDirectory(prefix="edgewright-") as folder,
    ):
        brought = bring(args.model, wish, Path(folder))
        graph = load(brought.path)
        data = brought.path.read_bytes()
    durable.replace_file(out, data)
    output.emit(
        args,
        _document(brought, graph, out, len(data)),
        _text(args, brought, graph, out, len(data)),
    )
    return 0


def read_wish(args: argparse.Namespace, data: Path | None) -> "Wish":
    """Return what the flags ask for.

    Args:
        args: What was given.
        data: An npz file with real inputs to check parity on.

    Raises:
        UsageError: A flag that cannot mean anything.
        DataError: The samples cannot be read.
    """
    from edgewright.toolchain.measure.data import DataKeys
    from edgewright.toolchain.sources import Wish, load_samples, parse_freeze, parse_input

    freeze: dict[str, int] = {}
    for text in args.freeze:
        freeze |= parse_freeze(text)
    samples = load_samples(data) if data else None
    judged = DataKeys().evaluate_inputs
    if samples is not None and judged in samples:
        # A file as optimize takes it: of its arrays, the inputs that are judged by.
        samples = {judged: samples[judged]}
    return Wish(
        weights=args.weights,
        inputs=tuple(map(parse_input, args.input)),
        freeze=freeze,
        keep_dynamic=args.keep_dynamic,
        opset=args.opset,
        trust_pickle=args.trust_pickle,
        samples=samples,
        timeout_s=parse_duration_us(args.timeout) / 1e6,
        tf_python=args.tf_python,
    )


def _stem(model: str) -> str:
    """Return the name of a file or folder, or of the module of a callable."""
    if Path(model).exists():
        return Path(model).resolve().stem
    return model.partition(":")[0].rpartition(".")[2] or "model"


def _document(brought: "Brought", graph: "Graph", out: Path, size: int) -> dict[str, Any]:
    from edgewright.toolchain.ir.axes import inputs_of, outputs_of

    def shown(tensors: Any) -> list[dict[str, Any]]:
        return [
            {"name": one.name, "dtype": one.dtype, "shape": list(one.shape)} for one in tensors
        ]

    return {
        "path": str(out),
        "kind": brought.kind,
        "source_sha256": brought.sha256,
        "exporter": brought.exporter,
        "sha256": graph.digest,
        "file_bytes": size,
        "opset": graph.opset,
        "inputs": shown(inputs_of(graph)),
        "outputs": shown(outputs_of(graph)),
        "operators": dict(graph.operators),
        "parity": brought.parity,
        "parity_rows": brought.rows,
        "parity_on_real_inputs": brought.real,
        "notes": list(brought.notes),
    }


def _text(
    args: argparse.Namespace, brought: "Brought", graph: "Graph", out: Path, size: int
) -> str:
    from edgewright.toolchain.ir.axes import inputs_of, outputs_of

    operators = ", ".join(f"{kind} {n}" for kind, n in graph.operators.most_common())
    rows = f"{brought.rows} {'real' if brought.real else 'made-up'} rows"
    return "\n".join(
        (
            f"{args.model} ({brought.kind}) is {out}",
            f"  source    {brought.sha256}",
            f"  exporter  {brought.exporter}, opset {graph.opset}",
            *(f"  input     {one}" for one in inputs_of(graph)),
            *(f"  output    {one}" for one in outputs_of(graph)),
            f"  nodes     {sum(graph.operators.values())}: {operators}",
            f"  size      {show_bytes(size)}, {show_bytes(graph.weight_bytes)} of it weights",
            f"  parity    within {brought.parity:.1e} of the largest answer, on {rows}",
            *(f"  note: {note}" for note in brought.notes),
        )
    )
