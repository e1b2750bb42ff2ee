"""The Unreleased section of CHANGELOG.md, put together from ``changes/``.

Each change brings a file of its own, ``changes/<few-words>.<kind>.md``, one sentence or
two for people who use edgewright, so that several may write at once and none conflicts.
Without arguments this prints what the fragments say; ``--release 0.2.0`` moves them into
CHANGELOG.md under that version and removes them.
"""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("added", "changed", "fixed", "removed", "security")
UNRELEASED = "## Unreleased"
_NAME = re.compile(rf"[a-z0-9][a-z0-9-]*\.({'|'.join(KINDS)})\.md")


def wrong(folder: Path) -> list[str]:
    """Return what is wrong with the fragments, one sentence each."""
    found = []
    for path in sorted(folder.glob("[!.]*")):
        if not _NAME.fullmatch(path.name):
            found.append(
                f"{path.name} is not named few-words.KIND.md, KIND {', '.join(KINDS)}"
            )
        elif not path.read_text().strip():
            found.append(f"{path.name} is empty")
    return found


def gather(folder: Path) -> str:
    """Return the fragments as Markdown, by kind, in the order of their names."""
    parts = []
    for kind in KINDS:
        texts = [path.read_text() for path in sorted(folder.glob(f"*.{kind}.md"))]
        if texts:
            rows = [f"- {' '.join(text.split())}" for text in texts]
            parts.append(f"### {kind.capitalize()}\n\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def release(root: Path, version: str) -> None:
    """Move the fragments into CHANGELOG.md under ``version``."""
    path, folder = root / "CHANGELOG.md", root / "changes"
    head, mark, rest = path.read_text().partition(UNRELEASED)
    note, _, older = rest.partition("\n## ")
    older = f"\n## {older}" if older else ""
    told = f"\n## {version}\n\n{gather(folder)}"
    path.write_text(f"{head}{mark}{note.rstrip()}\n{told}{older}")
    for fragment in folder.glob("*.md"):
        fragment.unlink()


def main() -> int:
    """Print what is unreleased, or release it."""
    parser = argparse.ArgumentParser(description="Put the change fragments together.")
    parser.add_argument("--release", metavar="VERSION", help="move them into CHANGELOG.md")
    args = parser.parse_args()
    if problems := wrong(ROOT / "changes"):
        print("\n".join(problems), file=sys.stderr)
        return 1
    if args.release:
        release(ROOT, args.release)
    else:
        print(gather(ROOT / "changes"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
