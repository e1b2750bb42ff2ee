"""Olive's quantization passes with the settings they have by themselves."""

import sys
from pathlib import Path
from typing import Any

import torch
from job import Feed, Job, carry_out
from olive.data.registry import Registry
from olive.model import ONNXModelHandler
from olive.passes.olive_pass import create_pass_from_dict
from olive.passes.onnx.quantization import OnnxDynamicQuantization, OnnxStaticQuantization


class _Samples(torch.utils.data.Dataset[Any]):
    """The samples without their dimension of one, each with a label nobody reads."""

    def __init__(self, feeds: list[Feed]) -> None:
        self._feeds = feeds

    def __len__(self) -> int:
        return len(self._feeds)

    def __getitem__(self, index: int) -> tuple[dict[str, torch.Tensor], int]:
        feed = self._feeds[index]
        return {name: torch.from_numpy(array[0]) for name, array in feed.items()}, 0


@Registry.register_dataset()
def calibration(**settings: Any) -> _Samples:
    """Return the samples of the job, under the name the passes are told."""
    return _Samples(Job.read(Path(settings["job"])).feeds())


def _made(job: Job, kind: type[Any], settings: dict[str, Any]) -> list[Path]:
    made = create_pass_from_dict(kind, settings, disable_search=True).run(
        ONNXModelHandler(str(job.model)), str(job.out / "model")
    )
    folder = Path(made.model_path).parent
    return [path for path in sorted(folder.iterdir()) if path.suffix != ".json"]


def static(job: Job) -> list[Path]:
    """Quantize weights and activations."""
    source = {"type": "calibration", "params": {"job": sys.argv[1]}}
    data = {"name": "calibration", "load_dataset_config": source}
    return _made(job, OnnxStaticQuantization, {"data_config": data})


def dynamic(job: Job) -> list[Path]:
    """Quantize weights now and activations while the model runs."""
    return _made(job, OnnxDynamicQuantization, {})


MAKERS = {"static": static, "dynamic": dynamic}

if __name__ == "__main__":
    sys.exit(carry_out(MAKERS, ["olive-ai", "onnxruntime", "onnx", "torch"]))
