"""The models every compression claim is measured on, as a table that loads nothing.

``ROWS`` says what there is. The models lie beside it, made by ``train.py``; the data are
computed by ``data.py`` when somebody asks for them.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from benchmarks.suite.data import Part, Samples
    from benchmarks.suite.metrics import Answers

Kind = Literal["classify", "detect", "segment", "reconstruct"]

MODELS = Path(__file__).parent / "models"


@dataclass(frozen=True, slots=True)
class Row:
    """One model with one data set.

    Attributes:
        name: As it is called everywhere.
        kind: What the model does.
        data: The function of ``data.py`` that makes its samples.
        model_file: Below ``models/``; two rows may share one.
        metric: The function of ``metrics.py`` that judges its answers.
        float_points: What that gives for the float model on ``evaluate``, 0 to 100.
        parameters: How many weights it has.
        mflop: Millions of operations for one sample, products counted as two.
        train_minutes: How long training took on one core of a laptop.
    """

    name: str
    kind: Kind
    data: str
    model_file: str
    metric: str
    float_points: float
    parameters: int
    mflop: float
    train_minutes: float

    @property
    def model(self) -> Path:
        """Where the float model is."""
        return MODELS / self.model_file

    def samples(self, part: "Part") -> "Samples":
        """Return one part of its data, computed anew."""
        made: Samples = getattr(import_module("benchmarks.suite.data"), self.data)(part)
        return made

    def points(self, answers: "Answers", samples: "Samples") -> float:
        """Return how good ``answers``, by output name, are for ``samples``: 0 to 100."""
        metric = getattr(import_module("benchmarks.suite.metrics"), self.metric)
        return float(metric(answers, samples))


ROWS = (
    Row(
        name="mlp",
        kind="classify",
        data="tabular",
        model_file="mlp.onnx",
        metric="accuracy",
        float_points=97.50,
        parameters=28_406,
        mflop=0.06,
        train_minutes=0.3,
    ),
    Row(
        name="lenet",
        kind="classify",
        data="glyphs",
        model_file="lenet.onnx",
        metric="accuracy",
        float_points=99.38,
        parameters=431_080,
        mflop=4.59,
        train_minutes=0.8,
    ),
    Row(
        name="resnet",
        kind="classify",
        data="figures",
        model_file="resnet.onnx",
        metric="accuracy",
        float_points=97.60,
        parameters=217_864,
        mflop=20.19,
        train_minutes=3.1,
    ),
    Row(
        name="mobilenet",
        kind="classify",
        data="textures",
        model_file="mobilenet.onnx",
        metric="accuracy",
        float_points=98.70,
        parameters=94_120,
        mflop=16.77,
        train_minutes=4.8,
    ),
    Row(
        name="detector",
        kind="detect",
        data="scenes",
        model_file="detector.onnx",
        metric="average_precision",
        float_points=90.40,
        parameters=97_856,
        mflop=14.51,
        train_minutes=2.1,
    ),
    Row(
        name="unet",
        kind="segment",
        data="regions",
        model_file="unet.onnx",
        metric="mean_overlap",
        float_points=82.72,
        parameters=59_424,
        mflop=24.80,
        train_minutes=2.4,
    ),
    Row(
        name="keyword",
        kind="classify",
        data="keywords",
        model_file="keyword.onnx",
        metric="accuracy",
        float_points=91.76,
        parameters=207_816,
        mflop=15.48,
        train_minutes=2.4,
    ),
    Row(
        name="heartbeat",
        kind="classify",
        data="heartbeats",
        model_file="heartbeat.onnx",
        metric="accuracy",
        float_points=93.16,
        parameters=15_401,
        mflop=0.37,
        train_minutes=1.0,
    ),
    Row(
        name="autoencoder",
        kind="reconstruct",
        data="vibration",
        model_file="autoencoder.onnx",
        metric="fault_area",
        float_points=96.45,
        parameters=50_952,
        mflop=0.10,
        train_minutes=0.5,
    ),
    Row(
        name="gru",
        kind="classify",
        data="motion",
        model_file="gru.onnx",
        metric="accuracy",
        float_points=94.78,
        parameters=22_470,
        mflop=2.77,
        train_minutes=0.8,
    ),
    Row(
        name="transformer",
        kind="classify",
        data="phrases",
        model_file="transformer.onnx",
        metric="accuracy",
        float_points=92.10,
        parameters=160_128,
        mflop=13.03,
        train_minutes=2.6,
    ),
    Row(
        name="transformer-padded",
        kind="classify",
        data="phrases_padded",
        model_file="transformer.onnx",
        metric="accuracy",
        float_points=92.52,
        parameters=160_128,
        mflop=13.03,
        train_minutes=2.6,
    ),
)
