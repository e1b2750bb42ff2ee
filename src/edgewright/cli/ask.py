"""Questions that lead a newcomer to an ``optimize`` command.

Each question says what it is about, has a default and is asked again until its answer
can be used. What comes out is the command, to type or to run.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from math import ceil
from pathlib import Path
from shlex import join
from textwrap import fill

from edgewright.core.errors import EdgewrightError, UsageError
from edgewright.core.units import parse_bytes, parse_duration_us

_WIDE = 79
_FORMS = {
    ".npz": "an npz file of arrays",
    ".csv": "a table, a sample a row",
    ".tsv": "a table, a sample a row",
    ".parquet": "a table, a sample a row",
}
_GOALS = (
    ("balanced", "the least bytes times latency: right for most"),
    ("size", "the smallest file"),
    ("speed", "the shortest answer"),
    ("battery", "the least energy an answer"),
    ("auto", "the first that holds the limits, the cheapest where only answers are limited"),
)


def ask(model: str = "") -> tuple[list[str], bool]:
    """Return the arguments after ``edgewright`` that the answers mean, and whether to start.

    Raises:
        UsageError: Standard input is no terminal.
    """
    if not sys.stdin.isatty():
        raise UsageError(
            "--ask asks on a terminal, and standard input is none",
            hint="Give the arguments instead: edgewright optimize MODEL --data DATA.",
        )
    _say(
        "A few questions, then the command that does it.\n"
        "Enter takes the answer in brackets; Ctrl-C ends it."
    )
    model = _question("Which model?", _model, default=model, about=(
        "An ONNX file, or a model of a framework that edgewright import takes.",
    ))  # fmt: skip
    data = _data()
    words = ["optimize", model, *data]
    device = _choice("Which device is it for?", _devices())
    words += ["--device", device] if device != "host" else []
    words += ["--goal", _choice("What matters most?", _GOALS)]
    _say("Now the limits that must hold. 'none' takes a default away.")
    for title, flag, default, check, about in _limits(_fewest(model, data)):
        # A contract always limits what is lost; all of it is no limit.
        free = "100" if check is _points else ""
        found = _question(title, _limit(check, free), default=default, about=(about,))
        words += [flag, found] if found else []
    out = _question("Where to write?", _folder, default=f"out/{_stem(model)}")
    words += ["-o", out]
    _say(f"This does the same:\n\n  edgewright {join(words)}")
    start = _question("Start now?", _yes_or_no, default="yes")
    return words, start == "yes"


def _data() -> list[str]:
    """Return the arguments for data, their metric and their making up."""
    while True:
        data = _question("Where are real inputs?", _inputs, default="none", about=(
            ("An npz file, a folder of pictures by class, a csv, tsv or parquet table, or "
            "module:callable. Without labels a candidate is compared with the model itself."),
        ))  # fmt: skip
        if data != "none":
            break
        made_up = _question("Make inputs up?", _yes_or_no, default="no", about=(
            "Then sizes and times mean something, and nothing is known of accuracy.",
        ))  # fmt: skip
        if made_up == "yes":
            return ["--allow-synthetic"]
    _say(f"Taken as {_form(data)}.")
    metric = _question("Judged by which metric?", _metric, default="auto", about=(
        ("accuracy, top-5, f1, auc, mae, map, cosine, fidelity; auto takes what the data "
        "call for."),
    ))  # fmt: skip
    return ["--data", data, *(["--metric", metric] if metric != "auto" else [])]


def _question(
    title: str,
    check: Callable[[str], str],
    *,
    default: str = "",
    about: Sequence[str] = (),
) -> str:
    """Return an answer that ``check`` takes; it is asked again until there is one."""
    print(f"\n{title}")
    for line in about:
        # In a list what wraps goes on under the description, which two blanks set off.
        hang = 2 + line.rfind("  ") + 2 if "  " in line.strip() else 2
        print(fill(line, width=_WIDE, initial_indent="  ", subsequent_indent=" " * hang))
    offered = f" [{default}]" if default else ""
    while True:
        try:
            answer = input(f"{offered} > ".lstrip()).strip() or default
            return check(answer)
        except EOFError as end:
            raise KeyboardInterrupt from end
        except EdgewrightError as error:
            print(f"  {error}" + (f" ({error.hint})" if error.hint else ""))


def _choice(title: str, choices: Sequence[tuple[str, str]]) -> str:
    """Return one of several, by its number or its name; the first by default."""
    names = [name for name, _ in choices]
    width = max(map(len, names))
    lines = [f"{n:2}  {name:{width}}  {what}" for n, (name, what) in enumerate(choices, 1)]

    def check(answer: str) -> str:
        if answer.isdecimal() and 1 <= int(answer) <= len(names):
            return names[int(answer) - 1]
        if answer not in names:
            raise UsageError(
                f"{answer!r} is none of them", hint=f"1 to {len(names)}, or a name"
            )
        return answer

    return _question(title, check, default=names[0], about=lines)


def _devices() -> list[tuple[str, str]]:
    """Return the devices that something we lower to runs on."""
    from edgewright.core.profile import catalogue
    from edgewright.toolchain.targets import TARGETS

    engines = {target.engine for target in TARGETS.values()}
    kinds = [
        (name, kind.title) for name, kind in catalogue().items() if engines & set(kind.engines)
    ]
    return [("host", "the machine this runs on, where everything can be measured"), *kinds]


def _model(answer: str) -> str:
    from edgewright.toolchain.sources import recognise

    if not answer:
        raise UsageError("a model is needed")
    answer = _at_home(answer)
    recognise(answer)
    return answer


def _at_home(answer: str) -> str:
    """Return a path that starts at one's home as a shell would."""
    return str(Path(answer).expanduser()) if answer.startswith("~") else answer


def _inputs(answer: str) -> str:
    answer = _at_home(answer)
    if answer != "none" and ":" not in answer and not Path(answer).exists():
        raise UsageError(f"there is no {answer}")
    path = Path(answer)
    if path.is_file() and path.suffix.lower() not in _FORMS:
        raise UsageError(f"{answer} is none of {', '.join(_FORMS)}")
    return answer


def _form(data: str) -> str:
    if Path(data).is_dir():
        return "a folder of pictures, a folder for each class"
    return _FORMS.get(Path(data).suffix.lower(), "a function that returns them")


def _metric(answer: str) -> str:
    from edgewright.toolchain.measure import metrics

    if answer != "auto":
        metrics.parse(answer)
    return answer


def _limit(check: Callable[[str], object], free: str) -> Callable[[str], str]:
    """Return a check that takes ``none`` too, which then is ``free``."""

    def read(answer: str) -> str:
        if answer in {"", "none"}:
            return free
        check(answer)
        return answer.replace(" ", "")

    return read


def _points(answer: str) -> float:
    try:
        points = float(answer)
    except ValueError:
        points = -1
    if not 0 <= points <= 100:
        raise UsageError(f"{answer!r} is not 0 to 100 points")
    return points


def _fewest(model: str, data: Sequence[str]) -> int:
    """Return how many samples the smallest class is judged by; 0 where that is not known.

    What is wrong with the data is for ``optimize`` to say.
    """
    if "--data" not in data or Path(model).suffix != ".onnx":
        return 0
    from edgewright.toolchain.planner import inputs

    metric = data[data.index("--metric") + 1] if "--metric" in data else "auto"
    try:
        order = inputs.Order(model=model, data=data[data.index("--data") + 1], metric=metric)
        labels = inputs.read(order).data.labels
    except EdgewrightError:
        return 0
    return min(Counter(labels.tolist()).values()) if labels is not None else 0


def _limits(fewest: int) -> Iterator[tuple[str, str, str, Callable[[str], object], str]]:
    """Yield title, flag, default, how an answer is checked, and what it is."""
    worst, about = "3", "A class of 90 samples cannot prove less than 3.3, one of 300 than 1."
    if fewest:
        # With 95 %: none lost of n is at most 3.0 / n, one at most 4.75 / n.
        none, one = 300 / fewest, 475 / fewest
        worst = str(max(3, ceil(one)))
        about = (
            f"Your smallest class is judged by {fewest} samples: if none of its answers is "
            f"lost that proves {none:.2g} points, if one is {one:.2g}."
        )
    yield (
        "How much accuracy may be lost?", "--accuracy-drop", "1", _points,
        "In points, overall, with 95 % confidence: 1 is from 97 % to 96 %.",
    )  # fmt: skip
    yield (
        "How much may any one class lose?", "--worst-class-drop", worst, _points,
        f"In points. {about}",
    )  # fmt: skip
    yield (
        "How large may the model's files be?", "--max-size", "", parse_bytes,
        "Like 350KB or 4MB; Enter for no limit.",
    )  # fmt: skip
    yield (
        "How long may an answer take?", "--max-latency", "", parse_duration_us,
        "What 99 of 100 answers keep within, like 20ms; Enter for no limit.",
    )  # fmt: skip
    yield (
        "How much memory may it take?", "--max-memory", "", parse_bytes,
        "Of the whole process that answers, like 150MB; Enter for no limit.",
    )  # fmt: skip
    yield (
        "How long may the search take?", "--budget", "", parse_duration_us,
        "Nothing else is begun after it, like 10m; Enter to try everything.",
    )  # fmt: skip


def _folder(answer: str) -> str:
    answer = _at_home(answer)
    if Path(answer).is_file():
        raise UsageError(f"{answer} is a file")
    return answer


def _yes_or_no(answer: str) -> str:
    for word in ("yes", "no"):
        if answer and word.startswith(answer.lower()):
            return word
    raise UsageError("yes or no")


def _stem(model: str) -> str:
    return Path(model.rpartition(":")[2]).stem or "model"


def _say(text: str) -> None:
    print(f"\n{text}")
