#include <algorithm>
#include <cstring>
#include <span>

#include "kernels/tile_gemm.h"

namespace ptqx::kernels {

void tile_gemm_u8s8_scalar(const TileGemmArgs& args) {
  int32_t acc[2 * kTileColumns];
  for (int64_t block = 0; block < args.block_count; ++block) {
    const TileColumns& columns = args.blocks[block];
    int64_t index = 0;  // of a pixel, of all tiles
    for (const PixelTile& tile : std::span(args.tiles, static_cast<size_t>(args.tile_count))) {
      for (int64_t i = 0; i < tile.count; ++i, ++index) {
        const uint8_t* pixel = tile.codes + i * args.pixel_step;
        std::copy_n(columns.init, args.columns, acc);
        for (int64_t s = 0; s < args.step_count; ++s) {
          const uint8_t* x = pixel + args.steps[s].input;
          const int8_t* w = columns.weights + args.steps[s].weight * args.weight_step;
          for (int64_t b = 0; b < kTileBytes; ++b) {
            for (int64_t j = 0; j < args.columns; ++j) {
              acc[j] += x[b] * w[b / 4 * args.weight_step + j * 4 + b % 4];
            }
          }
        }
        args.tail(*columns.tail_args, acc, index, 1, args.columns);
      }
    }
  }
}

void gather_scalar(const GatherArgs& args) {
  for (int64_t i = 0; i < args.m; ++i) {
    for (int64_t p = 0; p < args.piece_count; ++p) {
      const GatherPiece& piece = args.pieces[p];
      const int64_t whole = std::max((piece.bytes + kTileBytes - 1) / kTileBytes, int64_t{1}) * kTileBytes;
      uint8_t* to = args.output + i * args.row_bytes + piece.output;
      std::memset(to, 0, static_cast<size_t>(whole));
      std::memcpy(to, piece.padding ? args.padding : args.pixels[i] + piece.input,
                  static_cast<size_t>(piece.bytes));
    }
  }
}

void unpack_panel_s4_scalar(const int8_t* packed, int64_t rows, int64_t nr, int8_t* output) {
  const int64_t width = nr * 4;
  for (int64_t row = 0; row < rows; ++row, packed += width, output += 2 * width) {
    for (int64_t i = 0; i < width; ++i) {
      const int low = packed[i] & 0xF;
      output[i] = static_cast<int8_t>(low < 8 ? low : low - 16);
      output[width + i] = static_cast<int8_t>(packed[i] >> 4);
    }
  }
}

}  // namespace ptqx::kernels
