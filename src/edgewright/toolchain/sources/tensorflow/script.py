"""Convert a TensorFlow model and answer for it; run by another interpreter, by its path.

It speaks as ``toolchain.sources.process`` says and imports the standard library, numpy,
tensorflow and tf2onnx, nothing else.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

_Answer = Callable[[Mapping[str, Any]], list[Any]]
_TRUST = "Export a SavedModel, or give --trust-pickle if you made the file yourself."


class _Refused(Exception):
    """What is told to the other side; the second argument is the hint."""


def main() -> int:
    """Serve until the pipe closes."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)
        answer: _Answer | None = None
        for line in sys.stdin:
            request = json.loads(line)
            try:
                if request["do"] == "convert":
                    told, answer = _convert(request)
                elif answer is not None:
                    told = _answer(request, answer)
                else:
                    told = _wrong("asked to answer before anything was converted")
            except _Refused as error:
                told = _wrong(*map(str, error.args))
            except Exception as error:  # noqa: BLE001  the outermost loop of this process
                first = (str(error).strip().splitlines() or ["nothing was said"])[0]
                told = _wrong(f"{type(error).__name__}: {first}")
            _say(channel, told)
    return 0


def _convert(request: Mapping[str, Any]) -> tuple[dict[str, Any], _Answer]:
    try:
        import tensorflow  # noqa: PLC0415  whether it is there is part of the answer
        import tf2onnx  # noqa: PLC0415
    except ImportError as error:
        raise _Refused(
            f"{sys.executable.rpartition('/')[2]} for TensorFlow has no {error.name}",
            "Install tensorflow-cpu and tf2onnx in its environment.",
        ) from error
    out = Path(request["folder"], "exported.onnx")
    model, kind = Path(request["model"]), request["kind"]
    if kind == "tflite":
        _tf2onnx("--tflite", model, out, request)
        answer = _of_tflite(tensorflow, model)
    elif kind == "keras":
        keras = _keras(tensorflow, model, trusted=request["trusted"])
        saved = Path(request["folder"], "saved")
        keras.export(str(saved), verbose=False)
        _tf2onnx("--saved-model", saved, out, request)
        answer = _of_keras(tensorflow, keras)
    else:
        _tf2onnx("--saved-model", model, out, request)
        answer = _of_saved(tensorflow, model)
    exporter = f"tf2onnx {tf2onnx.__version__}, tensorflow {tensorflow.__version__}"
    return {"model": str(out), "exporter": exporter}, answer


def _tf2onnx(flag: str, model: Path, out: Path, request: Mapping[str, Any]) -> None:
    command = [
        sys.executable, "-I", "-m", "tf2onnx.convert", flag, str(model),
        "--output", str(out), "--opset", str(request["opset"]),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode or not out.exists():
        lines = done.stderr.strip().splitlines() or ["nothing was said"]
        raise _Refused(f"tf2onnx cannot convert the model: {lines[-1].strip()}")


def _keras(tensorflow: Any, model: Path, *, trusted: bool) -> Any:
    if not trusted and model.suffix in {".h5", ".hdf5"}:
        import h5py  # noqa: PLC0415  comes with tensorflow

        with h5py.File(model, "r") as file:
            config = str(file.attrs.get("model_config", ""))
        if '"Lambda"' in config:
            raise _Refused(
                f"{model.name} holds a Lambda layer: loading it would run code from the file",
                _TRUST,
            )
    try:
        return tensorflow.keras.models.load_model(model, compile=False, safe_mode=not trusted)
    except (ValueError, TypeError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise _Refused(f"Keras cannot load {model.name}: {first}", _TRUST) from error


def _of_keras(tensorflow: Any, model: Any) -> _Answer:
    names = [tensor.name for tensor in model.inputs]

    def answer(feeds: Mapping[str, Any]) -> list[Any]:
        given = _ordered(feeds, names)
        told = model(given[0] if len(given) == 1 else given, training=False)
        return [np.asarray(one) for one in tensorflow.nest.flatten(told)]

    return answer


def _of_saved(tensorflow: Any, model: Path) -> _Answer:
    loaded = tensorflow.saved_model.load(str(model))
    if "serving_default" not in loaded.signatures:
        raise _Refused(
            f"{model.name} has no signature serving_default; there are: "
            f"{', '.join(loaded.signatures) or 'none'}",
            "Save it with a signature of that name.",
        )
    signature = loaded.signatures["serving_default"]
    names = list(signature.structured_input_signature[1])

    def answer(feeds: Mapping[str, Any]) -> list[Any]:
        given = dict(zip(names, _ordered(feeds, names), strict=True))
        told = signature(**{name: tensorflow.constant(one) for name, one in given.items()})
        return [np.asarray(told[name]) for name in sorted(told)]

    signature_kept = loaded  # a signature does not keep its variables alive
    answer.kept = signature_kept  # type: ignore[attr-defined]
    return answer


def _of_tflite(tensorflow: Any, model: Path) -> _Answer:
    interpreter = tensorflow.lite.Interpreter(model_path=str(model))
    inputs = interpreter.get_input_details()

    def answer(feeds: Mapping[str, Any]) -> list[Any]:
        given = _ordered(feeds, [one["name"] for one in inputs])
        for one, array in zip(inputs, given, strict=True):
            interpreter.resize_tensor_input(one["index"], array.shape)
        interpreter.allocate_tensors()
        for one, array in zip(inputs, given, strict=True):
            interpreter.set_tensor(one["index"], array)
        interpreter.invoke()
        outputs = interpreter.get_output_details()
        return [np.array(interpreter.get_tensor(one["index"])) for one in outputs]

    return answer


def _ordered(feeds: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """Return the arrays in the order of ``names``; an only one whatever it is called."""
    plain = {name.partition(":")[0]: array for name, array in feeds.items()}
    if len(feeds) == len(names) == 1:
        return list(feeds.values())
    lost = [name for name in names if name.partition(":")[0] not in plain]
    if lost or len(plain) != len(names):
        raise _Refused(
            f"the converted model is fed {', '.join(feeds)}, its source {', '.join(names)}",
            "Export ONNX with the framework's own tools and import that.",
        )
    return [plain[name.partition(":")[0]] for name in names]


def _answer(request: Mapping[str, Any], answer: _Answer) -> dict[str, Any]:
    names, told, counts = request["names"], {}, []
    with np.load(request["feeds"], allow_pickle=False) as held:
        for s in range(request["sets"]):
            outputs = answer({name: held[f"{s}.{i}"] for i, name in enumerate(names)})
            told.update({f"{s}.{i}": array for i, array in enumerate(outputs)})
            counts.append(len(outputs))
    path = Path(request["feeds"]).with_name("answers.npz")
    np.savez(path, **told)
    return {"answers": str(path), "counts": counts}


def _wrong(message: str, hint: str = "") -> dict[str, Any]:
    return {"error": {"code": "model_error", "message": message, "hint": hint}}


def _say(channel: TextIO, told: Mapping[str, Any]) -> None:
    channel.write(json.dumps(told) + "\n")
    channel.flush()


if __name__ == "__main__":
    sys.exit(main())
