#include "kernels/ceiling.h"
#include "kernels/tile_config_amx.h"

namespace ptqx::kernels {

int64_t u8s8_ceiling_amxint8(int64_t rounds) {
  _tile_loadconfig(&kTileConfig);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  for (int64_t round = 0; round < rounds; ++round) {
    _tile_dpbusd(0, 4, 5);
    _tile_dpbusd(1, 4, 5);
    _tile_dpbusd(2, 4, 5);
    _tile_dpbusd(3, 4, 5);
  }
  _tile_release();
  return rounds * 4 * 16 * 16 * 64;
}

}  // namespace ptqx::kernels
