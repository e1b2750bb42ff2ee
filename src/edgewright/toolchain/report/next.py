"""What to do after a run: commands to type, each with what it is for."""

from collections.abc import Iterator
from dataclasses import dataclass
from shlex import quote

from edgewright.toolchain.planner.values import Report, written

_FLAGS = {
    "file_bytes": "--max-size {}",
    "p99_us": "--max-latency {}us",
    "peak_memory_bytes": "--max-memory {}",
    "transport_bytes": "--max-transport {}",
    "storage_bytes": "--max-storage {}",
    "rate_hz": "--rate {}",
    "power_mw": "--max-power {}mW",
}
_SHARES = {
    "accuracy_drop_bp": ("--accuracy-drop", 100),
    "worst_class_drop_bp": ("--worst-class-drop", 100),
    "min_retention_bp": ("--accuracy-retention", 10_000),
}


@dataclass(frozen=True, slots=True)
class Advice:
    """Something to do; ``command`` is empty where it is nothing to type."""

    why: str
    command: str = ""


def flag_of(field: str, value: int) -> str:
    """Return the flag that asks for a limit; empty where only a project file can."""
    if field in _SHARES:
        flag, unit = _SHARES[field]
        return f"{flag} {value / unit:g}"
    return _FLAGS.get(field, "").format(value)


def advice(report: Report, folder: str) -> Iterator[Advice]:
    """Yield what to try next, the likeliest in front."""
    if report.chosen:
        yield from _ships(report, folder)
    else:
        yield from _missed(report, folder)
    if report.device.fingerprint != report.host.fingerprint:
        yield Advice(
            f"on {report.device.title} itself, so that latency and memory are its own",
            _again(report, folder, "--device host"),
        )
    if "not tried" in report.stopped and "holds" in report.stopped:
        yield Advice(
            "try the others too, and ship what is best of all",
            _again(report, folder, "--goal balanced"),
        )
    elif report.stopped != "all were tried":
        yield Advice("go on where it stopped", _again(report, folder))
    yield Advice("see everything drawn, in a browser", f"edgewright report {quote(folder)}")


def _ships(report: Report, folder: str) -> Iterator[Advice]:
    name = quote(report.recipe.model)
    yield Advice(
        "make a bundle of it, with golden answers and the evidence",
        f"edgewright pack {quote(folder)} --name {name} --version 1 -o {name}.ewb",
    )
    yield Advice("measure it again, here", f"edgewright bench {quote(folder)}")


def _missed(report: Report, folder: str) -> Iterator[Advice]:
    near = report.nearest
    remedies = dict.fromkeys(
        finding.remedy for finding in report.shipped.findings if finding.remedy
    )
    yield from (Advice(f"{remedy.rstrip('.')}.") for remedy in remedies)
    if near is not None and near.moved:
        asked = {field: getattr(near.contract, field) for field in near.moved}
        flags = " ".join(filter(None, (flag_of(*pair) for pair in asked.items())))
        rest = [written(*pair) for pair in asked.items() if not flag_of(*pair)]
        beside = f", with {', '.join(rest)} in the project's [contract]" if rest else ""
        yield Advice(
            f"accept what {near.candidate} can do{beside}", _again(report, folder, flags)
        )
    if report.recipe.quantization != "auto":
        yield Advice(
            "allow every form of weights", _again(report, folder, "--quantization auto")
        )
    slow = [
        one.name
        for one in report.candidates
        if one.outcome == "pass" and one.reason.startswith("slower")
    ]
    if slow and not report.recipe.allow_slower:
        yield Advice(
            f"ship {slow[0]} although it is slower than {report.baseline}",
            _again(report, folder, "--allow-slower"),
        )


def _again(report: Report, folder: str, more: str = "") -> str:
    """Return the command that did this run, with ``more``; data are named by the reader."""
    model = quote(f"{report.recipe.model}.onnx")
    device = "" if report.device.name == "host" else f" --device {report.device.name}"
    if "--device" in more:
        device = ""
    goal = f" --goal {report.recipe.goal}" if report.recipe.goal else ""
    if "--goal" in more:
        goal = ""
    trusted = "".join(f" --trust {name}" for name in report.recipe.trusted)
    extra = f" {more}" if more else ""
    return (
        f"edgewright optimize {model} --data DATA -o {quote(folder)}{device}{goal}"
        f"{trusted}{extra}"
    )
