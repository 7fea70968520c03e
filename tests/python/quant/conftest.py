from __future__ import annotations

import sys
from pathlib import Path

import torch

torch.set_num_threads(1)  # the tensors are small; threads would only wait for each other
sys.path.insert(0, str(Path(__file__).parent))  # for `import reference`
