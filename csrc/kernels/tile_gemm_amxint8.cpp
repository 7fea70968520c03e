// Tiles of 32 pixels x 32 channels in four of the eight registers; two of the others hold pixels, two hold
// weights. The tail of one block of accumulators runs between the multiplications of the next, which the
// matrix unit makes on its own while the vector units are idle.

#include <algorithm>
#include <optional>

#include "kernels/conv_tail_avx512.h"
#include "kernels/tile_config_amx.h"
#include "kernels/tile_gemm.h"

namespace ptqx::kernels {
namespace {

constexpr int64_t kBlockTiles = 2;  // of pixels
constexpr int64_t kBlockPixels = kBlockTiles * kTilePixels;
constexpr int64_t kLanes = 16;  // channels of a tile
constexpr int64_t kPrefetchedBytes = 16384;

/// Codes straight from the accumulators: the tail of nearly every layer.
template <int NV, bool Residual>
class CodesTail {
 public:
  static constexpr int kRows = SaturatingTail<NV, Residual>::kPixelsOfPack;
  static constexpr bool kAddsInit = true;

  void begin(const ConvTailArgs& args, const int32_t* init) {
    tail_.emplace(args);
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) init_[j] = _mm512_loadu_si512(init + kLanes * j);
  }

  /// kRows rows, or one.
  template <int Rows>
  void finish(const int32_t* acc, int64_t first) {
    __m512i rows[Rows][NV];
#pragma GCC unroll 4
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) {
        rows[i][j] = _mm512_add_epi32(_mm512_load_si512(acc + kLanes * (i * NV + j)), init_[j]);
      }
    }
    tail_->finish(rows, first);
  }

 private:
  std::optional<SaturatingTail<NV, Residual>> tail_;
  __m512i init_[NV];
};

/// All others, as many rows at a time as make the call worth while.
template <int64_t Columns>
class AnyTail {
 public:
  static constexpr int kRows = 8;
  static constexpr bool kAddsInit = false;

  explicit AnyTail(ConvTailFn* tail) : tail_(tail) {}
  void begin(const ConvTailArgs& args, const int32_t* /*init*/) { args_ = &args; }

  template <int Rows>
  void finish(const int32_t* acc, int64_t first) {
    tail_(*args_, acc, first, Rows, Columns);
  }

 private:
  ConvTailFn* tail_;
  const ConvTailArgs* args_ = nullptr;
};

/// Accumulators of one block that still have to be finished, some rows at a time.
template <class Tail, int64_t Columns>
class PendingTail {
 public:
  static constexpr bool kAddsInit = Tail::kAddsInit;

  explicit PendingTail(Tail tail) : tail_(tail) {}

  /// Of `upper` pixels from `first` on, and of `lower` in the second tile; to be spread over `steps`.
  void begin(const TileColumns& columns, const int32_t* acc, int64_t first, int64_t upper, int64_t lower,
             int64_t steps) {
    tail_.begin(*columns.tail_args, columns.init);
    acc_ = acc;
    next_ = first;
    end_ = first + upper;
    lower_acc_ = acc + kTilePixels * Columns;
    lower_ = lower;
    packs_of_step_ = (upper + lower) / (std::max<int64_t>(steps, 1) * Tail::kRows) + 1;
  }

  [[gnu::always_inline]] void step() {
    for (int64_t i = 0; i < packs_of_step_; ++i) {
      if (next_ + Tail::kRows > end_) return;
      finish<Tail::kRows>();
      if (next_ == end_) take_lower();
    }
  }

  void flush() {
    do {
      while (next_ + Tail::kRows <= end_) finish<Tail::kRows>();
      while (next_ < end_) finish<1>();
    } while (take_lower());
  }

 private:
  template <int Rows>
  [[gnu::always_inline]] void finish() {
    tail_.template finish<Rows>(acc_, next_);
    next_ += Rows;
    acc_ += Rows * Columns;
  }

  bool take_lower() {
    if (lower_ == 0) return false;
    acc_ = lower_acc_;
    end_ += lower_;
    lower_ = 0;
    return true;
  }

  Tail tail_;
  const int32_t* acc_ = nullptr;
  const int32_t* lower_acc_ = nullptr;
  int64_t next_ = 0, end_ = 0, lower_ = 0, packs_of_step_ = 0;
};

/// The operands of one block.
struct Operands {
  const uint8_t* tiles[kBlockTiles];
  int64_t pixel_step;
  const TileStep* steps;
  const TileStep* steps_end;
  const int8_t* weights;
  int64_t weight_step;
  const int32_t* init;
  int32_t* acc;  // [pixels][columns]
};

// Registers are literals of the instructions, so that every shape of block is written out. Sixteen equal rows
// take a register longer to load than a tail takes to add them.

template <int64_t AccStep, class Pending>
void multiply_2x2(const Operands& o, Pending& pending) {
  if constexpr (Pending::kAddsInit) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, o.init, 0);
    _tile_loadd(1, o.init + kLanes, 0);
    _tile_loadd(2, o.init, 0);
    _tile_loadd(3, o.init + kLanes, 0);
  }
  for (const TileStep* step = o.steps; step < o.steps_end; ++step) {
    const int8_t* w = o.weights + step->weight * o.weight_step;
    _tile_loadd(4, o.tiles[0] + step->input, o.pixel_step);
    _tile_loadd(6, w, o.weight_step);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(7, w + kTileBytes, o.weight_step);
    _tile_dpbusd(1, 4, 7);
    _tile_loadd(5, o.tiles[1] + step->input, o.pixel_step);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
    pending.step();
  }
  int32_t* acc = o.acc + kTilePixels * AccStep / 4;
  _tile_stored(0, o.acc, AccStep);
  _tile_stored(1, o.acc + kLanes, AccStep);
  _tile_stored(2, acc, AccStep);
  _tile_stored(3, acc + kLanes, AccStep);
}

template <int64_t AccStep, class Pending>
void multiply_1x2(const Operands& o, Pending& pending) {
  if constexpr (Pending::kAddsInit) {
    _tile_zero(0);
    _tile_zero(1);
  } else {
    _tile_loadd(0, o.init, 0);
    _tile_loadd(1, o.init + kLanes, 0);
  }
  for (const TileStep* step = o.steps; step < o.steps_end; ++step) {
    const int8_t* w = o.weights + step->weight * o.weight_step;
    _tile_loadd(4, o.tiles[0] + step->input, o.pixel_step);
    _tile_loadd(6, w, o.weight_step);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(7, w + kTileBytes, o.weight_step);
    _tile_dpbusd(1, 4, 7);
    pending.step();
  }
  _tile_stored(0, o.acc, AccStep);
  _tile_stored(1, o.acc + kLanes, AccStep);
}

template <int64_t AccStep, class Pending>
void multiply_2x1(const Operands& o, Pending& pending) {
  if constexpr (Pending::kAddsInit) {
    _tile_zero(0);
    _tile_zero(2);
  } else {
    _tile_loadd(0, o.init, 0);
    _tile_loadd(2, o.init, 0);
  }
  for (const TileStep* step = o.steps; step < o.steps_end; ++step) {
    _tile_loadd(6, o.weights + step->weight * o.weight_step, o.weight_step);
    _tile_loadd(4, o.tiles[0] + step->input, o.pixel_step);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(5, o.tiles[1] + step->input, o.pixel_step);
    _tile_dpbusd(2, 5, 6);
    pending.step();
  }
  _tile_stored(0, o.acc, AccStep);
  _tile_stored(2, o.acc + kTilePixels * AccStep / 4, AccStep);
}

template <int64_t AccStep, class Pending>
void multiply_1x1(const Operands& o, Pending& pending) {
  if constexpr (Pending::kAddsInit) {
    _tile_zero(0);
  } else {
    _tile_loadd(0, o.init, 0);
  }
  for (const TileStep* step = o.steps; step < o.steps_end; ++step) {
    _tile_loadd(4, o.tiles[0] + step->input, o.pixel_step);
    _tile_loadd(6, o.weights + step->weight * o.weight_step, o.weight_step);
    _tile_dpbusd(0, 4, 6);
    pending.step();
  }
  _tile_stored(0, o.acc, AccStep);
}

/// Weights that only sixteen pixels meet: they come in order from wherever they are, so that is where time
/// goes.
template <int64_t AccStep, class Pending>
void multiply_1x4(const Operands& o, Pending& pending) {
  if constexpr (Pending::kAddsInit) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, o.init, 0);
    _tile_loadd(1, o.init + kLanes, 0);
    _tile_loadd(2, o.init + 2 * kLanes, 0);
    _tile_loadd(3, o.init + 3 * kLanes, 0);
  }
  for (const TileStep* step = o.steps; step < o.steps_end; ++step) {
    const int8_t* w = o.weights + step->weight * o.weight_step;
    for (int64_t line = 0; line < 4 * kTileDwords; ++line) {
      _mm_prefetch(w + kPrefetchedBytes + line * kTileBytes, _MM_HINT_T0);
    }
    _tile_loadd(4, o.tiles[0] + step->input, o.pixel_step);
    _tile_loadd(5, w, o.weight_step);
    _tile_dpbusd(0, 4, 5);
    _tile_loadd(6, w + kTileBytes, o.weight_step);
    _tile_dpbusd(1, 4, 6);
    _tile_loadd(7, w + 2 * kTileBytes, o.weight_step);
    _tile_dpbusd(2, 4, 7);
    _tile_loadd(5, w + 3 * kTileBytes, o.weight_step);
    _tile_dpbusd(3, 4, 5);
    pending.step();
  }
  _tile_stored(0, o.acc, AccStep);
  _tile_stored(1, o.acc + kLanes, AccStep);
  _tile_stored(2, o.acc + 2 * kLanes, AccStep);
  _tile_stored(3, o.acc + 3 * kLanes, AccStep);
}

template <int64_t Columns, class Pending>
void multiply(bool two, const Operands& operands, Pending& pending) {
  constexpr int64_t kAccStep = 4 * Columns;
  if constexpr (Columns == 2 * kTileColumns) {
    multiply_1x4<kAccStep>(operands, pending);
  } else if constexpr (Columns == kTileColumns) {
    two ? multiply_2x2<kAccStep>(operands, pending) : multiply_1x2<kAccStep>(operands, pending);
  } else {
    two ? multiply_2x1<kAccStep>(operands, pending) : multiply_1x1<kAccStep>(operands, pending);
  }
}

template <int64_t Columns, class Tail>
void all_blocks(const TileGemmArgs& args, Tail tail) {
  alignas(64) int32_t acc[2][kBlockPixels * Columns];  // one is finished while the other is filled
  PendingTail<Tail, Columns> pending(tail);
  int filled = 0;
  for (int64_t b = 0; b < args.block_count; ++b) {
    const TileColumns& columns = args.blocks[b];
    int64_t first = 0;  // pixel of the block
    for (int64_t t = 0; t < args.tile_count; t += kBlockTiles, filled = 1 - filled) {
      const PixelTile upper = args.tiles[t];
      const bool two = t + 1 < args.tile_count;
      const PixelTile lower = two ? args.tiles[t + 1] : PixelTile{nullptr, 0};
      multiply<Columns>(two,
                        {.tiles = {upper.codes, lower.codes},
                         .pixel_step = args.pixel_step,
                         .steps = args.steps,
                         .steps_end = args.steps + args.step_count,
                         .weights = columns.weights,
                         .weight_step = args.weight_step,
                         .init = columns.init,
                         .acc = acc[filled]},
                        pending);
      pending.flush();
      pending.begin(columns, acc[filled], first, upper.count, lower.count, args.step_count);
      first += upper.count + lower.count;
    }
  }
  pending.flush();
}

template <int64_t Columns>
void with_tail(const TileGemmArgs& args) {
  constexpr int kVectors = Columns / kLanes;
  const ConvTailArgs& tail = *args.blocks[0].tail_args;
  if (!saturation_clamps(tail)) {
    all_blocks<Columns>(args, AnyTail<Columns>(args.tail));
  } else if (tail.tail->residual != nullptr) {
    all_blocks<Columns>(args, CodesTail<kVectors, true>());
  } else {
    all_blocks<Columns>(args, CodesTail<kVectors, false>());
  }
}

}  // namespace

void tile_gemm_u8s8_amxint8(const TileGemmArgs& args) {
  _tile_loadconfig(&kTileConfig);
  switch (args.columns) {
    case kTileColumns / 2:
      with_tail<kTileColumns / 2>(args);
      break;
    case kTileColumns:
      with_tail<kTileColumns>(args);
      break;
    default:
      with_tail<2 * kTileColumns>(args);
  }
  _tile_release();
}

}  // namespace ptqx::kernels
