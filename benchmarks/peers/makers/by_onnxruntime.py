"""ONNX Runtime's own quantization, as its documentation recommends it for a CPU.

Static for convolutions: QDQ after ``quant_pre_process``, unsigned activations and a scale
a channel, weights of 7 bits where the processor needs it. Dynamic for transformers and
recurrent nets. ``static-default`` leaves every option as it is: signed activations and a
scale a tensor.
"""

import sys
from pathlib import Path

import onnx
from job import Job, Reader, carry_out
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers import optimizer


def _prepared(job: Job) -> Path:
    path = job.out / "prepared.onnx"
    try:
        quant_pre_process(job.model, path)
    except Exception:  # noqa: BLE001  its symbolic inference raises nothing narrower
        # It gives up on Resize and on sentences of any length; their users then skip it.
        quant_pre_process(job.model, path, skip_symbolic_shape=True)
    return path


def static(job: Job) -> list[Path]:
    """Quantize weights and activations, as recommended for x86."""
    path = job.out / "model.onnx"
    quantize_static(
        _prepared(job),
        path,
        Reader(job.feeds()),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=job.pairs_overflow,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return [path]


def static_default(job: Job) -> list[Path]:
    """Quantize weights and activations with no option given."""
    path = job.out / "model.onnx"
    quantize_static(_prepared(job), path, Reader(job.feeds()))
    return [path]


def dynamic(job: Job) -> list[Path]:
    """Quantize weights now and activations while the model runs, a scale a channel."""
    return _dynamic(onnx.load(job.model), job)


def dynamic_fused(job: Job) -> list[Path]:
    """The same after the optimizer for transformers, which makes one node of attention."""
    fused = optimizer.optimize_model(str(job.model), model_type="bert", opt_level=0)
    if "com.microsoft" not in {held.domain for held in fused.model.opset_import}:
        # The optimizer adds nodes of this domain and does not say so in the model.
        fused.model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return _dynamic(fused.model, job)


def _dynamic(proto: onnx.ModelProto, job: Job) -> list[Path]:
    path = job.out / "model.onnx"
    # Shapes the exporter left of weights: the tool transposes these and then disagrees.
    proto.graph.ClearField("value_info")
    quantize_dynamic(
        proto,
        path,
        per_channel=True,
        reduce_range=job.pairs_overflow,
        weight_type=QuantType.QInt8,
        # It cannot infer types behind its own fused nodes, and asks to be told.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    return [path]


MAKERS = {
    "static": static,
    "static-default": static_default,
    "dynamic": dynamic,
    "dynamic-fused": dynamic_fused,
}

if __name__ == "__main__":
    sys.exit(carry_out(MAKERS, ["onnxruntime", "onnx"]))
