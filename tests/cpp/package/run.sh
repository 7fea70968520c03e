#!/usr/bin/env bash
# Builds the two programs of this folder against the installed package and runs them.
#     tests/cpp/package/run.sh PYTHON
set -euo pipefail
python=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" - "$work" <<'END'
import sys
from pathlib import Path

import torch

import ptqx

torch.manual_seed(0)
work = Path(sys.argv[1])
model = ptqx.models.cnn(in_channels=1, num_classes=10).eval()
x = torch.randn(5, 1, 8, 8)
qmodel = ptqx.quantize(model, [x], "int8")
ptqx.save(qmodel, work / "model.ptqx")
(work / "input.f32").write_bytes(x.numpy().tobytes())
(work / "output.f32").write_bytes(qmodel(x).detach().contiguous().numpy().tobytes())
END

prefix=$("$python" -c 'import ptqx, torch; print(ptqx.cmake_prefix_path + ";" + torch.utils.cmake_prefix_path)')
cmake -S "$here" -B "$work/build" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release > /dev/null
cmake --build "$work/build" --parallel
"$work/build/engine_program" "$work/model.ptqx" "$work/input.f32" "$work/output.f32"
"$work/build/operator_program"
