"""Second moments of layers' inputs."""

from __future__ import annotations

import pytest
import torch
from ptqx.methods.moments import GRAM_BLOCK, _self_product


@pytest.mark.parametrize("size", [3, GRAM_BLOCK, GRAM_BLOCK + 1, 2 * GRAM_BLOCK + 7])
def test_product_with_itself_is_whole_and_symmetric(size: int) -> None:
    columns = torch.randint(-9, 10, (2, size, 50), generator=torch.Generator().manual_seed(0)).float()
    product = _self_product(columns)
    assert torch.equal(product, columns @ columns.transpose(1, 2))  # whole numbers: exact in any order
