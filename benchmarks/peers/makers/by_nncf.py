"""NNCF: post-training quantization and compression of weights, to OpenVINO and to ONNX."""

import sys
from pathlib import Path
from typing import Any

import nncf
import onnx
import openvino
from job import Job, carry_out


def _read(job: Job) -> Any:
    return openvino.Core().read_model(job.model)


def _written(model: Any, job: Job) -> list[Path]:
    path = job.out / "model.xml"
    # Its default stores the floats that are left as float16, as users get it.
    openvino.save_model(model, path)
    return [path, path.with_suffix(".bin")]


def _quantized(model: Any, job: Job) -> Any:
    feeds = job.feeds()
    kind = nncf.ModelType.TRANSFORMER if job.transformer else None
    return nncf.quantize(model, nncf.Dataset(feeds), subset_size=len(feeds), model_type=kind)


def int8(job: Job) -> list[Path]:
    """Quantize for OpenVINO."""
    return _written(_quantized(_read(job), job), job)


def onnx_int8(job: Job) -> list[Path]:
    """Quantize the ONNX model, for ONNX Runtime."""
    path = job.out / "model.onnx"
    onnx.save(_quantized(onnx.load(job.model), job), path)
    return [path]


def fp16(job: Job) -> list[Path]:
    """Store weights as float16."""
    return _written(_read(job), job)


def int8_weights(job: Job) -> list[Path]:
    """Store weights as int8."""
    mode = nncf.CompressWeightsMode.INT8_ASYM
    return _written(nncf.compress_weights(_read(job), mode=mode), job)


def int4_weights(job: Job) -> list[Path]:
    """Store weights as int4 in blocks of 32."""
    made = nncf.compress_weights(
        _read(job),
        mode=nncf.CompressWeightsMode.INT4_ASYM,
        group_size=32,
        all_layers=True,
        advanced_parameters=nncf.AdvancedCompressionParameters(
            # Without it a layer that 32 does not divide ends the whole run.
            group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST
        ),
    )
    return _written(made, job)


MAKERS = {
    "int8": int8,
    "onnx-int8": onnx_int8,
    "fp16": fp16,
    "int8-weights": int8_weights,
    "int4-weights": int4_weights,
}

if __name__ == "__main__":
    sys.exit(carry_out(MAKERS, ["nncf", "openvino", "onnx"]))
