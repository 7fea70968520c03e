#include <algorithm>

#include "kernels/gemm.h"

namespace ptqx::kernels {

void gemm_u8s8_scalar(const GemmArgs& args) {
  int32_t row[kGemmMaxNr];
  for (int64_t i = 0; i < args.m; ++i) {
    int32_t* acc = row;
    if (args.acc_rows != nullptr) {
      acc = args.acc_rows[i];
    } else {
      if (args.acc != nullptr) acc = args.acc + i * args.nr;
      std::copy_n(args.init, args.nr, acc);
    }
    for (const GemmRun& run : std::span(args.runs, static_cast<size_t>(args.run_count))) {
      const uint8_t* x = args.pixels[i] + run.input;
      const int8_t* w = args.panel + run.weight;
      for (int64_t d = 0; d < run.dwords; ++d, x += 4) {
        for (int64_t j = 0; j < args.nr; ++j, w += 4) {
          const int32_t dot = x[0] * w[0] + x[1] * w[1] + x[2] * w[2] + x[3] * w[3];
          acc[j] = static_cast<int32_t>(static_cast<uint32_t>(acc[j]) + static_cast<uint32_t>(dot));
        }
      }
    }
    if (acc == row) args.tail(*args.tail_args, acc, i, 1, args.nr);
  }
}

}  // namespace ptqx::kernels
