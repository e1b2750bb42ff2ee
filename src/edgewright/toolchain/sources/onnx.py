"""A model that is ONNX already: what it answers as given is what it must answer after."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgewright.core.errors import EngineError, ModelError, UsageError
from edgewright.toolchain.ir.answers import Array, Feeds, answers
from edgewright.toolchain.ir.graph import STANDARD_DOMAINS
from edgewright.toolchain.ir.load import MIN_OPSET, read, source_digest
from edgewright.toolchain.sources.values import Converted, Wish


class _Onnx:
    """The source."""

    @contextmanager
    def convert(
        self, kind: str, model: str, wish: Wish, _folder: Path, /
    ) -> Iterator[Converted]:
        """Yield the model as it is."""
        if wish.weights or wish.inputs:
            raise UsageError(
                f"an {kind} model brings its own weights and inputs",
                hint="Leave out --weights and --input; axes are fixed with --freeze.",
            )
        path = Path(model)
        proto = read(path)
        versions = [o.version for o in proto.opset_import if o.domain in STANDARD_DOMAINS]
        opset = max(versions, default=0)
        notes = []
        if opset < MIN_OPSET:
            notes.append(
                f"It was written in opset {opset} and raised to {MIN_OPSET}, the first in "
                "which weights are quantized per channel."
            )

        def answer(tried: Sequence[Feeds]) -> list[list[Array]]:
            try:
                return answers(path, tried)
            except EngineError as error:
                raise ModelError(
                    f"{path.name} as given cannot answer: {error}",
                    hint="Try it with ONNX Runtime alone, and export it again.",
                ) from error

        yield Converted(path, source_digest(path), "as given", tuple(notes), answer)


SOURCE = _Onnx()
