"""What optimizing takes at its peak stays within bounds, whatever is tried on the way."""

import pytest
from benchmarks import memory


@pytest.mark.slow
def test_a_model_of_100_mb_is_optimized_within_2_gb(tmp_path):
    """Process and children together; graphs of all candidates would be more than that."""
    memory.write(tmp_path)

    peak, code, said = memory.watch(memory.command(tmp_path), tmp_path)

    assert (tmp_path / "model.onnx").stat().st_size > 95_000_000
    assert code in {0, 3, 4}, said
    assert peak < memory.LIMIT_BYTES
