// A program without torch and without Python: opens a .ptqx file and compares its output with the
// one that Python saved beside it.
#include <cstdio>
#include <fstream>
#include <vector>

#include "engine/engine.h"

namespace {

std::vector<float> read_floats(const char* path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  std::vector<float> values(static_cast<size_t>(file.tellg()) / sizeof(float));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(values.data()),
            static_cast<std::streamsize>(values.size() * sizeof(float)));
  return values;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::puts("usage: engine_program MODEL.ptqx INPUT.f32 OUTPUT.f32");
    return 2;
  }
  try {
    const auto engine = ptqx::engine::Engine::open(argv[1]);
    const std::vector<float> input = read_floats(argv[2]);
    const std::vector<float> expected = read_floats(argv[3]);
    const int64_t batch = static_cast<int64_t>(input.size()) / engine.input_size();
    std::vector<float> output(static_cast<size_t>(batch * engine.output_size()));
    engine.run(input.data(), batch, output.data(), ptqx::engine::ThreadExecutor(2));
    if (output != expected) {
      std::puts("the engine's output differs from Python's");
      return 1;
    }
  } catch (const std::exception& error) {
    std::puts(error.what());
    return 1;
  }
  std::puts("engine: ok");
  return 0;
}
