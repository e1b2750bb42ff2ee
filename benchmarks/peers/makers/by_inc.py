"""Intel Neural Compressor, in the package that still quantizes ONNX models."""

import sys
from pathlib import Path

from job import Job, Reader, carry_out
from onnx_neural_compressor import data_reader
from onnx_neural_compressor.quantization import config, quantize


class _Calibration(Reader, data_reader.CalibrationDataReader):
    """The samples, of the class it asks for."""


def _made(job: Job, settings: config.BaseConfig) -> list[Path]:
    path = job.out / "model.onnx"
    quantize(str(job.model), str(path), settings)
    return [path, *sorted(job.out.glob("model.onnx*data*"))]


def static(job: Job) -> list[Path]:
    """Quantize weights and activations with its defaults."""
    reader = _Calibration(job.feeds())
    settings = config.StaticQuantConfig(
        calibration_data_reader=reader, calibration_sampling_size=len(reader)
    )
    return _made(job, settings)


def smooth(job: Job) -> list[Path]:
    """Move outliers from activations into weights, then quantize both."""
    reader = _Calibration(job.feeds())
    settings = config.SmoothQuantConfig(
        calibration_data_reader=reader, calibration_sampling_size=len(reader)
    )
    return _made(job, settings)


def dynamic(job: Job) -> list[Path]:
    """Quantize weights now and activations while the model runs."""
    return _made(job, config.DynamicQuantConfig())


MAKERS = {"static": static, "smooth": smooth, "dynamic": dynamic}

if __name__ == "__main__":
    packages = ["onnx-neural-compressor", "onnxruntime", "onnx", "numpy"]
    sys.exit(carry_out(MAKERS, packages))
