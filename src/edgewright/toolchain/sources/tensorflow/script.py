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

_Named = Callable[[Mapping[str, Any]], dict[str, Any]]
_Answer = Callable[[Mapping[str, Any]], list[Any]]
_TRUST = "Export a SavedModel, or give --trust-pickle if you made the file yourself."
_OTHERWISE = "Export ONNX with the framework's own tools and import that."


class _RefusedError(Exception):
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
            except _RefusedError as error:
                told = _wrong(*map(str, error.args))
            except Exception as error:  # noqa: BLE001  the outermost loop of this process
                first = (str(error).strip().splitlines() or ["nothing was said"])[0]
                told = _wrong(f"{type(error).__name__}: {first}")
            _say(channel, told)
    return 0


def _convert(request: Mapping[str, Any]) -> tuple[dict[str, Any], _Answer]:
    try:
        import onnx  # noqa: PLC0415  whether they are there is part of the answer
        import tensorflow as tf  # noqa: PLC0415
        import tf2onnx  # noqa: PLC0415
    except ImportError as error:
        raise _RefusedError(
            f"{sys.executable.rpartition('/')[2]} for TensorFlow has no {error.name}",
            "Install tensorflow-cpu and tf2onnx in its environment.",
        ) from error
    out = Path(request["folder"], "exported.onnx")
    model, kind = Path(request["model"]), request["kind"]
    if kind == "tflite":
        _tf2onnx("--tflite", model, out, request)
        told = _of_tflite(tf, model)
    elif kind == "keras":
        keras = _keras(tf, model, trusted=request["trusted"])
        saved = Path(request["folder"], "saved")
        keras.export(str(saved), verbose=False)
        _tf2onnx("--saved-model", saved, out, request)
        told = _of_keras(keras)
    else:
        _tf2onnx("--saved-model", model, out, request)
        told = _of_saved(tf, model)
    outputs = [value.name for value in onnx.load(out).graph.output]
    exporter = f"tf2onnx {tf2onnx.__version__}, tensorflow {tf.__version__}"
    return {"model": str(out), "exporter": exporter}, _in_order(told, outputs)


def _tf2onnx(flag: str, model: Path, out: Path, request: Mapping[str, Any]) -> None:
    command = [
        sys.executable, "-I", "-m", "tf2onnx.convert", flag, str(model),
        "--output", str(out), "--opset", str(request["opset"]),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode or not out.exists():
        lines = done.stderr.strip().splitlines() or ["nothing was said"]
        raise _RefusedError(f"tf2onnx cannot convert the model: {lines[-1].strip()}")


def _keras(tensorflow: Any, model: Path, *, trusted: bool) -> Any:
    if not trusted and model.suffix in {".h5", ".hdf5"}:
        import h5py  # noqa: PLC0415  comes with tensorflow

        with h5py.File(model, "r") as file:
            config = str(file.attrs.get("model_config", ""))
        if '"Lambda"' in config:
            raise _RefusedError(
                f"{model.name} holds a Lambda layer: loading it would run code from the file",
                _TRUST,
            )
    try:
        return tensorflow.keras.models.load_model(model, compile=False, safe_mode=not trusted)
    except (ValueError, TypeError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise _RefusedError(f"Keras cannot load {model.name}: {first}", _TRUST) from error


def _of_keras(model: Any) -> _Named:
    names = [tensor.name for tensor in model.inputs]

    def answer(feeds: Mapping[str, Any]) -> dict[str, Any]:
        given = _ordered(feeds, names)
        told = model(given[0] if len(given) == 1 else given, training=False)
        if not isinstance(told, dict):  # what Keras calls them when it exports
            several = told if isinstance(told, list | tuple) else [told]
            told = {f"output_{index}": one for index, one in enumerate(several)}
        return {name: np.asarray(one) for name, one in told.items()}

    return answer


def _of_saved(tensorflow: Any, model: Path) -> _Named:
    loaded = tensorflow.saved_model.load(str(model))
    if "serving_default" not in loaded.signatures:
        raise _RefusedError(
            f"{model.name} has no signature serving_default; there are: "
            f"{', '.join(loaded.signatures) or 'none'}",
            "Save it with a signature of that name.",
        )
    names = list(loaded.signatures["serving_default"].structured_input_signature[1])

    def answer(feeds: Mapping[str, Any]) -> dict[str, Any]:
        given = dict(zip(names, _ordered(feeds, names), strict=True))
        # Through what was loaded: a signature alone does not keep its variables alive.
        told = loaded.signatures["serving_default"](
            **{name: tensorflow.constant(one) for name, one in given.items()}
        )
        return {name: np.asarray(one) for name, one in told.items()}

    return answer


def _of_tflite(tensorflow: Any, model: Path) -> _Named:
    interpreter = tensorflow.lite.Interpreter(model_path=str(model))
    inputs = interpreter.get_input_details()

    def answer(feeds: Mapping[str, Any]) -> dict[str, Any]:
        given = _ordered(feeds, [one["name"] for one in inputs])
        for one, array in zip(inputs, given, strict=True):
            interpreter.resize_tensor_input(one["index"], array.shape)
        interpreter.allocate_tensors()
        for one, array in zip(inputs, given, strict=True):
            interpreter.set_tensor(one["index"], array)
        interpreter.invoke()
        return {
            one["name"]: np.array(interpreter.get_tensor(one["index"]))
            for one in interpreter.get_output_details()
        }

    return answer


def _in_order(answer: _Named, outputs: Sequence[str]) -> _Answer:
    """Return ``answer`` with its outputs in the order the converted model has them."""
    return lambda feeds: _ordered(answer(feeds), outputs)


def _ordered(arrays: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """Return the arrays in the order of ``names``; an only one whatever it is called.

    Some call a tensor ``image`` and others ``image:0``; where that is all there is between
    them they mean the same.
    """
    if len(arrays) == len(names) == 1:
        return list(arrays.values())
    for spelt in (str, _plain):
        held = {spelt(name): array for name, array in arrays.items()}
        wanted = [spelt(name) for name in names]
        if len(set(wanted)) == len(held) == len(arrays) and set(wanted) == set(held):
            return [held[name] for name in wanted]
    raise _RefusedError(
        f"the converted model has the tensors {', '.join(arrays)}, its source "
        f"{', '.join(names)}, and which is which cannot be told",
        _OTHERWISE,
    )


def _plain(name: str) -> str:
    """Return the name of a tensor without the number of its output: ``image:0``."""
    return name.partition(":")[0]


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
