# LibTorch, from an installed Python package or a LibTorch folder, makes the target ptqx::torch. PTQX_TORCH_FOLDER
# says where it is. CMAKE_PREFIX_PATH names torch's folder or, as torch.utils.cmake_prefix_path does, its share/cmake.
# find_package(Torch) won't do: of a torch that is built for CUDA it insists on CUDA's compiler, which nothing here
# needs.
find_path(PTQX_TORCH_INCLUDE_DIR torch/library.h
          HINTS "${Torch_DIR}" "$ENV{Torch_DIR}" PATH_SUFFIXES include ../../include ../../../include NO_CACHE)
if(PTQX_TORCH_INCLUDE_DIR AND NOT TARGET ptqx::torch)
  get_filename_component(PTQX_TORCH_FOLDER "${PTQX_TORCH_INCLUDE_DIR}/.." ABSOLUTE)
  add_library(ptqx::torch INTERFACE IMPORTED)
  target_compile_features(ptqx::torch INTERFACE cxx_std_20)
  target_include_directories(ptqx::torch INTERFACE
    "${PTQX_TORCH_FOLDER}/include" "${PTQX_TORCH_FOLDER}/include/torch/csrc/api/include")
  target_link_libraries(ptqx::torch INTERFACE
    "${PTQX_TORCH_FOLDER}/lib/libtorch.so" "${PTQX_TORCH_FOLDER}/lib/libtorch_cpu.so" "${PTQX_TORCH_FOLDER}/lib/libc10.so")
endif()
