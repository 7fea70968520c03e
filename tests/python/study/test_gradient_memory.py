"""Peak memory of accumulated gradients: real processes, real peaks."""

from __future__ import annotations

import pytest
from ptqx.errors import PtqxError
from ptqx.study import gradient_memory


def test_int8_sums_take_a_quarter_and_the_peak_falls() -> None:
    table = gradient_memory("vgg11_bn", batch_size=4, micro_batches=2, progress=False)
    float32, int8 = table.rows
    assert (float32.bits, int8.bits) == (32, 8)
    assert float32.accumulated_bytes / int8.accumulated_bytes == pytest.approx(4 / (1 + 4 / 256), rel=0.01)
    saved = float32.accumulated_bytes - int8.accumulated_bytes
    assert float32.peak_bytes - int8.peak_bytes == pytest.approx(saved, rel=0.1)  # temporary tensors differ
    assert float32.peak_bytes > 3 * float32.accumulated_bytes  # parameters and momenta beside them
    assert table.to_markdown().splitlines()[-1].startswith("| int8 ")


@pytest.mark.parametrize("micro_batches", [0, 5])
def test_micro_batches_must_fit_the_batch(micro_batches: int) -> None:
    with pytest.raises(PtqxError, match=r"micro_batches must be in 1\.\.4, the batch; got"):
        gradient_memory("lenet5", (1, 28, 28), batch_size=4, micro_batches=micro_batches)
