"""Forms of data: arrays, pictures by class, tables and functions come to the same samples."""

import sys
from importlib import import_module

import numpy as np
import pytest

from edgewright.core.errors import DataError, UsageError
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.measure.data import DataKeys, Given, assemble, split
from edgewright.toolchain.measure.forms import Form, Pictures, read

ROWS = [TensorSpec("x", "float32", (-1, 2))]
BOTH = [TensorSpec("ids", "int64", (-1, 3)), TensorSpec("mask", "int64", (-1, 3))]


def test_an_array_for_each_input_is_found_by_its_name(tmp_path):
    """``calibrate_NAME`` and ``evaluate_NAME``."""
    ids, mask = np.arange(12).reshape(4, 3), np.ones((4, 3), np.int64)
    np.savez(
        tmp_path / "d.npz", calibrate_ids=ids + 50, calibrate_mask=mask, evaluate_ids=ids,
        evaluate_mask=mask,
    )  # fmt: skip

    data = assemble(read(str(tmp_path / "d.npz"), BOTH, Form()), BOTH, ())

    assert set(data.evaluate.arrays) == {"ids", "mask"}
    assert (len(data.calibrate), len(data.evaluate)) == (4, 4)
    assert data.labels is None


def test_an_input_without_its_array_is_refused(tmp_path):
    """The nearest name is told."""
    np.savez(tmp_path / "d.npz", evaluate_ids=np.zeros((2, 3), np.int64))

    with pytest.raises(DataError, match="no array 'evaluate_mask'"):
        read(str(tmp_path / "d.npz"), BOTH, Form())


def test_a_table_has_names_for_classes(tmp_path):
    """The column ``label`` may hold words, ``split`` tells the parts."""
    (tmp_path / "d.csv").write_text(
        "a,b,label,split\n1,2,cat,calibrate\n3,4,dog,evaluate\n5,6,cat,evaluate\n"
    )

    given = read(str(tmp_path / "d.csv"), ROWS, Form())
    data = assemble(given, ROWS, given.classes)

    np.testing.assert_array_equal(data.evaluate.arrays["x"], [[3, 4], [5, 6]])
    np.testing.assert_array_equal(data.calibrate.arrays["x"], [[1, 2]])
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [1, 0]
    assert data.calibrate_labels.tolist() == [0]


def test_rows_that_say_no_part_are_split_by_their_own_values(tmp_path):
    """A quarter calibrates, and in another order the same quarter does."""
    rows = [f"{i},{i * i},{i % 3}" for i in range(80)]
    one, other = tmp_path / "a.tsv", tmp_path / "b.csv"
    one.write_text("\n".join(["a\tb\tlabel", *(r.replace(",", "\t") for r in rows)]))
    other.write_text("\n".join(["a,b,label", *reversed(rows)]))

    first, second = (read(str(path), ROWS, Form()) for path in (one, other))

    assert len(first.calibrate["x"]) == 20
    assert {tuple(r) for r in first.calibrate["x"]} == {
        tuple(r) for r in second.calibrate["x"]
    }


def test_numbers_that_are_no_classes_are_targets(tmp_path):
    """A label of 0.5 is something to come near to."""
    (tmp_path / "d.csv").write_text("a,b,label\n1,2,0.5\n3,4,1.5\n5,6,2\n7,8,3\n")

    given = read(str(tmp_path / "d.csv"), ROWS, Form())

    assert given.labels is None
    assert len(given.targets) == 3


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a,b\n", "a row of names and rows of values"),
        ("a,b\n1\n", "line 2 of d.csv has 1 cells, the head 2"),
        ("a,a\n1,2\n", "names a column twice"),
        ("a,b\n1,red\n", "column 'b' of d.csv holds what is no number"),
        ("a,b,c\n1,2,3\n", "3 columns do not fill input 'x'"),
        ("a,b,split\n1,2,train\n", "column 'split' of d.csv says 'train'"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(tmp_path, text, match):
    """With the line or the column."""
    (tmp_path / "d.csv").write_text(text)

    with pytest.raises(DataError, match=match):
        read(str(tmp_path / "d.csv"), ROWS, Form())


@pytest.mark.slow
@pytest.mark.needs("pyarrow")
def test_parquet_is_read_like_text(tmp_path):
    """The same rows."""
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    columns = {"a": [1.0, 3.0], "b": [2.0, 4.0], "label": [0, 1], "split": ["evaluate"] * 2}
    parquet.write_table(arrow.table(columns), tmp_path / "d.parquet")

    given = read(str(tmp_path / "d.parquet"), ROWS, Form())

    np.testing.assert_array_equal(given.evaluate["x"], [[1, 2], [3, 4]])
    assert given.labels.tolist() == [0, 1]


@pytest.fixture
def yielding(tmp_path, monkeypatch):
    """Return what writes a module with a function of samples, and its name."""
    monkeypatch.chdir(tmp_path)

    def write(body):
        name = f"mine_{len(body)}"
        (tmp_path / f"{name}.py").write_text(
            f"import numpy as np\ndef samples(part):\n{body}\n"
        )
        return f"{name}:samples"

    yield write
    for name in [name for name in sys.modules if name.startswith("mine_")]:
        del sys.modules[name]


def test_a_function_yields_samples_with_what_is_right(yielding):
    """Called once for each part."""
    name = yielding(
        "    for i in range(3 if part == 'evaluate' else 2):\n"
        "        yield np.array([i, len(part)], np.float32), i % 2"
    )

    data = assemble(read(name, ROWS, Form()), ROWS, ("a", "b"))

    assert data.evaluate.arrays["x"].tolist() == [[0, 8], [1, 8], [2, 8]]
    assert data.labels.tolist() == [0, 1, 0]
    assert data.calibrate_labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("    return []", "yields no sample for evaluation"),
        ("    yield np.zeros(2, np.float32), 1\n    yield np.zeros(2, np.float32)",
         "for some samples of calibrate what is right, not for all"),
        ("    yield np.zeros(2)\n    yield np.zeros(3)", "samples of calibrate are not alike"),
    ],
)  # fmt: skip
def test_what_a_function_yields_must_belong_together(yielding, body, match):
    """Nothing is filled in."""
    with pytest.raises(DataError, match=match):
        read(yielding(body), ROWS, Form())


def test_a_function_that_is_not_there_is_refused():
    """The module is named."""
    with pytest.raises(UsageError, match="no_such_module:samples cannot be found"):
        read("no_such_module:samples", ROWS, Form())


def test_a_split_is_by_chance_but_fixed():
    """A quarter of the samples, and no more than are asked."""
    rows = [bytes([i, i // 7]) for i in range(200)]

    assert split(rows).sum() == 50
    assert split(rows, most=10).sum() == 10
    np.testing.assert_array_equal(split(rows), split(rows))


def _pictures(folder, *, parts=False):
    pillow = import_module("PIL.Image")
    draw = np.random.default_rng(0)
    for label, name in enumerate(("ant", "bee")):
        for index in range(8):
            part = ("calibrate" if index < 3 else "evaluate") if parts else ""
            place = folder / part / name
            place.mkdir(parents=True, exist_ok=True)
            pixels = draw.integers(0, 256, (6, 9, 3), np.uint8)
            pixels[..., label] = 255
            pillow.fromarray(pixels).save(place / f"{index}.png")


@pytest.mark.slow
@pytest.mark.needs("pillow")
@pytest.mark.parametrize(
    ("shape", "dtype"), [((-1, 3, 6, 9), "float32"), ((-1, 6, 9, 3), "uint8")]
)
def test_a_folder_of_pictures_is_what_the_model_takes(tmp_path, shape, dtype):
    """In its layout and scale, with the folders' names as classes."""
    _pictures(tmp_path, parts=True)
    inputs = [TensorSpec("image", dtype, shape)]

    given = read(str(tmp_path), inputs, Form())
    data = assemble(given, inputs, given.classes)

    assert given.classes == ("ant", "bee")
    assert (len(data.calibrate), len(data.evaluate)) == (6, 10)
    image = data.evaluate.arrays["image"]
    assert image.max() == (1.0 if dtype == "float32" else 255)
    red = image[:, 0] if dtype == "float32" else image[..., 0]
    assert (red.min(axis=(1, 2)) == red.max())[data.labels == 0].all()


@pytest.mark.slow
@pytest.mark.needs("pillow")
def test_how_a_picture_becomes_numbers_can_be_said(tmp_path):
    """Mean, spread and order of the colours; without parts a quarter calibrates."""
    _pictures(tmp_path)
    inputs = [TensorSpec("image", "float32", (-1, 3, 6, 9))]
    plain = read(str(tmp_path), inputs, Form()).evaluate["image"]
    how = Pictures(mean=(0.5, 0.5, 0.5), spread=(0.25, 0.25, 0.25), order="bgr")

    given = read(str(tmp_path), inputs, Form(pictures=how))

    np.testing.assert_allclose(
        given.evaluate["image"], (plain[:, ::-1] - 0.5) / 0.25, atol=1e-6
    )
    assert len(given.calibrate["image"]) == 4


@pytest.mark.slow
@pytest.mark.needs("pillow")
def test_what_is_no_picture_is_refused(tmp_path):
    """The file is named, and a folder without classes is none."""
    inputs = [TensorSpec("image", "float32", (-1, 3, 6, 9))]
    with pytest.raises(DataError, match="holds no folders of pictures"):
        read(str(tmp_path), inputs, Form())
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant" / "a.png").write_bytes(b"no")

    with pytest.raises(DataError, match=r"a\.png is not a picture"):
        read(str(tmp_path), inputs, Form())


def test_a_brighter_sample_is_no_copy():
    """Twice every value is another sample; the same values to the last digit are a copy."""
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    given = Given("d", evaluate={"x": x}, calibrate={"x": x * 2})

    assert len(assemble(given, ROWS, ()).evaluate) == 5
    with pytest.raises(DataError, match="5 of 5 evaluation samples are calibration samples"):
        assemble(
            Given("d", evaluate={"x": x}, calibrate={"x": x * np.float32(1.0000001)}), ROWS, ()
        )


def test_a_model_with_two_inputs_is_not_fed_from_a_table(tmp_path):
    """Both inputs are named."""
    (tmp_path / "d.csv").write_text("a,b\n1,2\n")

    with pytest.raises(DataError, match="this one has 2: ids, mask"):
        read(str(tmp_path / "d.csv"), BOTH, Form(keys=DataKeys()))
