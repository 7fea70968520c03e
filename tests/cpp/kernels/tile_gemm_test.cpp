#include "kernels/tile_gemm.h"

#include <string>

#include "kernel_rows.h"

namespace ptqx::kernels {
namespace {

/// Tiles of so many wanted pixels each, blocks of columns side by side in one panel, and steps that take the
/// panel's dwords in another order than the pixels' bytes.
class TileGemmCase {
 public:
  TileGemmCase(std::vector<int64_t> wanted, int64_t block_count, int64_t columns, int64_t steps,
               int extreme = 0)
      : wanted_(std::move(wanted)), block_count_(block_count), columns_(columns) {
    const auto tiles = static_cast<int64_t>(wanted_.size());
    pixel_step_ = steps * kTileBytes + 3;
    codes_ = random_codes<uint8_t>(tiles * kTilePixels * pixel_step_, extreme == 0 ? 0 : 255, 255);
    weights_ = random_codes<int8_t>(steps * kTileDwords * width() * 4, extreme == 0 ? -128 : extreme,
                                    extreme == 0 ? 127 : extreme);
    init_ = random_codes<int32_t>(width(), -(1 << 30), 1 << 30);
    multiplier_.assign(static_cast<size_t>(width()), 1e-6F);
    for (int64_t s = 0; s < steps; ++s) {
      steps_.push_back({.input = s * kTileBytes, .weight = (steps - 1 - s) * kTileDwords});
    }
    for (const int64_t count : wanted_) {
      for (int64_t i = 0; i < count; ++i) places_.push_back(static_cast<int64_t>(places_.size()) * width());
    }
    std::reverse(places_.begin(), places_.end());
  }

  template <class T>
  std::vector<T> run(TileGemmFn* gemm, Tail tail) const {
    std::vector<uint8_t> residual(places_.size() * static_cast<size_t>(width()));
    for (size_t i = 0; i < residual.size(); ++i) residual[i] = static_cast<uint8_t>(i);
    if (tail.residual_multiplier != 0) tail.residual = residual.data();
    GuardedBuffer<T> output(static_cast<int64_t>(residual.size()));
    std::vector<PixelTile> tiles;
    for (const int64_t count : wanted_) {
      tiles.push_back(
          {codes_.data() + static_cast<int64_t>(tiles.size()) * kTilePixels * pixel_step_, count});
    }
    std::vector<ConvTailArgs> tails;
    std::vector<TileColumns> blocks;
    for (int64_t b = 0; b < block_count_; ++b) {
      tails.push_back({.tail = &tail,
                       .channel = b * columns_,
                       .channels = b + 1 == block_count_ ? columns_ - 3 : columns_,
                       .places = places_.data(),
                       .pixel_scale = nullptr,
                       .output = output.data(),
                       .scaled = false,
                       .bounded = tail_is_bounded(tail, width())});
    }
    for (int64_t b = 0; b < block_count_; ++b) {
      blocks.push_back(
          {weights_.data() + b * columns_ * 4, init_.data() + b * columns_, &tails[static_cast<size_t>(b)]});
    }
    gemm({.tiles = tiles.data(),
          .tile_count = static_cast<int64_t>(tiles.size()),
          .pixel_step = pixel_step_,
          .steps = steps_.data(),
          .step_count = static_cast<int64_t>(steps_.size()),
          .blocks = blocks.data(),
          .block_count = block_count_,
          .columns = columns_,
          .weight_step = width() * 4,
          .tail = conv_tail_scalar});
    EXPECT_TRUE(output.guards_intact());
    return output.values();
  }

  void expect_exact(TileGemmFn* gemm) const {
    Tail tail;
    tail.output = Output::kS32;
    expect_same(run<int32_t>(tile_gemm_u8s8_scalar, tail), run<int32_t>(gemm, tail));
    tail.output = Output::kU8;
    tail.multiplier = multiplier_.data();
    tail.output_zero_point = 100;
    expect_same(run<uint8_t>(tile_gemm_u8s8_scalar, tail), run<uint8_t>(gemm, tail));
    tail.residual_multiplier = 0.7F;
    tail.residual_zero_point = 90;
    expect_same(run<uint8_t>(tile_gemm_u8s8_scalar, tail), run<uint8_t>(gemm, tail));
  }

 private:
  int64_t width() const { return block_count_ * columns_; }

  std::vector<int64_t> wanted_;
  int64_t block_count_, columns_, pixel_step_;
  std::vector<uint8_t> codes_;
  std::vector<int8_t> weights_;
  std::vector<int32_t> init_;
  std::vector<float> multiplier_;
  std::vector<TileStep> steps_;
  std::vector<int64_t> places_;
};

TEST(TileGemmTest, ScalarRowIsTheDefinition) {
  std::vector<uint8_t> codes(kTilePixels * kTileBytes, 0);
  codes[1 * kTileBytes + 6] = 200;  // pixel 1, byte 2 of dword 1
  std::vector<int8_t> weights(kTileDwords * 16 * 4, 0);
  for (size_t j = 0; j < 16; ++j) weights[(1 * 16 + j) * 4 + 2] = static_cast<int8_t>(j);
  const std::vector<int32_t> init(16, 7);
  const int64_t places[] = {0, 16};
  std::vector<int32_t> output(32);
  Tail tail;
  tail.output = Output::kS32;
  const ConvTailArgs tail_args{.tail = &tail,
                               .channel = 0,
                               .channels = 16,
                               .places = places,
                               .pixel_scale = nullptr,
                               .output = output.data(),
                               .scaled = false};
  const PixelTile tile{codes.data(), 2};
  const TileStep step{0, 0};
  const TileColumns block{weights.data(), init.data(), &tail_args};
  tile_gemm_u8s8_scalar({.tiles = &tile,
                         .tile_count = 1,
                         .pixel_step = kTileBytes,
                         .steps = &step,
                         .step_count = 1,
                         .blocks = &block,
                         .block_count = 1,
                         .columns = 16,
                         .weight_step = 64,
                         .tail = conv_tail_scalar});
  for (int j = 0; j < 16; ++j) {
    EXPECT_EQ(output[static_cast<size_t>(j)], 7);
    EXPECT_EQ(output[static_cast<size_t>(16 + j)], 7 + 200 * j);
  }
}

TEST(TileGemmTest, EveryRowEqualsTheScalarOne) {
  for_each_vector_row(tile_gemm_u8s8_rows(), [](TileGemmFn* gemm) {
    for (const int64_t columns : {16, 32}) {
      for (const int64_t steps : {0, 1, 2, 5, 37}) {
        for (const int64_t blocks : {1, 3}) {
          SCOPED_TRACE(std::to_string(columns) + " columns, " + std::to_string(steps) + " steps");
          TileGemmCase({16}, blocks, columns, steps).expect_exact(gemm);
          TileGemmCase({1}, blocks, columns, steps).expect_exact(gemm);
          TileGemmCase({11}, blocks, 64, steps).expect_exact(gemm);
          TileGemmCase({16, 16, 16}, blocks, columns, steps).expect_exact(gemm);
          TileGemmCase({7, 16, 1, 13, 16, 2, 9}, blocks, columns, steps).expect_exact(gemm);
        }
      }
    }
  });
}

TEST(TileGemmTest, LargestSumsAreExact) {
  for_each_vector_row(tile_gemm_u8s8_rows(), [](TileGemmFn* gemm) {
    TileGemmCase({16, 5}, 1, 32, 500, -128).expect_exact(gemm);
    TileGemmCase({16, 5}, 1, 32, 500, 127).expect_exact(gemm);
  });
}

TEST(GatherTest, ScalarRowIsTheDefinition) {
  std::vector<uint8_t> codes(100);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i + 1);
  const std::vector<uint8_t> padding(8, 250);
  const uint8_t* pixel = codes.data();
  // Zeros at the end of the row, then padding, then codes over the padding's zeros.
  const GatherPiece pieces[] = {{.input = 0, .output = 64, .bytes = 0},
                                {.input = 0, .output = 0, .bytes = 3, .padding = true},
                                {.input = 5, .output = 3, .bytes = 70}};
  std::vector<uint8_t> row(128 + kTileBytes, 99);
  gather_scalar({.pixels = &pixel,
                 .m = 1,
                 .pieces = pieces,
                 .piece_count = 3,
                 .padding = padding.data(),
                 .row_bytes = 128,
                 .output = row.data()});
  for (size_t i = 0; i < 128; ++i) {
    const int expected = i < 3 ? 250 : i < 73 ? static_cast<int>(i) + 3 : 0;
    EXPECT_EQ(row[i], expected) << i;
  }
}

TEST(GatherTest, EveryRowEqualsTheScalarOne) {
  const std::vector<uint8_t> codes = random_codes<uint8_t>(5000, 0, 255);
  const std::vector<uint8_t> padding(256, 31);
  std::vector<const uint8_t*> pixels;
  for (int64_t i = 0; i < 37; ++i) pixels.push_back(codes.data() + 3 * i);
  for_each_vector_row(gather_rows(), [&](GatherFn* gather) {
    for (const int64_t bytes : kLengths) {
      const int64_t row_bytes = (3 * bytes / kTileBytes + 3) * kTileBytes;
      const std::vector<GatherPiece> pieces = {
          {.input = 0, .output = row_bytes - kTileBytes, .bytes = 0},
          {.input = 9, .output = 0, .bytes = bytes},
          {.input = 0, .output = bytes, .bytes = bytes % 256, .padding = true},
          {.input = 77, .output = bytes + bytes % 256, .bytes = bytes}};
      const auto run = [&](GatherFn* fn) {
        GuardedBuffer<uint8_t> output(static_cast<int64_t>(pixels.size()) * row_bytes + kTileBytes);
        fn({.pixels = pixels.data(),
            .m = static_cast<int64_t>(pixels.size()),
            .pieces = pieces.data(),
            .piece_count = static_cast<int64_t>(pieces.size()),
            .padding = padding.data(),
            .row_bytes = row_bytes,
            .output = output.data()});
        EXPECT_TRUE(output.guards_intact());
        return output.values();
      };
      expect_same(run(gather_scalar), run(gather));
    }
  });
}

TEST(UnpackPanelTest, EveryRowGivesTheCodesOfTheNibbles) {
  for (const int64_t nr : {16, 32, 48, 64}) {
    const std::vector<int8_t> packed = random_codes<int8_t>(7 * nr * 4, -128, 127);
    for (const Row<UnpackPanelFn>& row : unpack_panel_s4_rows()) {
      if (!isa_supported(row.isa)) continue;
      SCOPED_TRACE(row.name);
      GuardedBuffer<int8_t> output(2 * 7 * nr * 4);
      row.function(packed.data(), 7, nr, output.data());
      EXPECT_TRUE(output.guards_intact());
      for (int64_t i = 0; i < 7 * nr * 4; ++i) {
        const int64_t low = i / (nr * 4) * 2 * nr * 4 + i % (nr * 4);
        const int pair = packed[static_cast<size_t>(i)];
        ASSERT_EQ(output.data()[low], (pair & 0xF) >= 8 ? (pair & 0xF) - 16 : pair & 0xF);
        ASSERT_EQ(output.data()[low + nr * 4], pair >> 4);
      }
    }
  }
}

}  // namespace
}  // namespace ptqx::kernels
