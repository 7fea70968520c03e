# Finds LibTorch as the installed Python package has it and makes
#   ptqx_torch         headers, C++ flags and libraries for a program without Python
#   ptqx_torch_python  the same with Python and pybind11 (torch's own copy)
# and PTQX_TORCH_VERSION, PTQX_TORCH_LIBRARY_DIR, PTQX_PYTHON_SUFFIX.
find_package(Python3 REQUIRED COMPONENTS Interpreter Development.Module)

if(NOT Torch_DIR AND NOT DEFINED ENV{Torch_DIR})
  execute_process(COMMAND ${Python3_EXECUTABLE} -c "import torch; print(torch.utils.cmake_prefix_path)"
                  OUTPUT_VARIABLE torch_prefix OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed ERROR_QUIET)
  if(failed)
    message(FATAL_ERROR "PyTorch is not importable by ${Python3_EXECUTABLE}: install torch, or build with -DPTQX_TORCH=OFF")
  endif()
  list(APPEND CMAKE_PREFIX_PATH ${torch_prefix})
endif()
include(ptqxTorch)
if(NOT TARGET ptqx::torch)
  message(FATAL_ERROR "no include/torch/library.h in ${CMAKE_PREFIX_PATH}: install torch, or build with -DPTQX_TORCH=OFF")
endif()
find_package(OpenMP REQUIRED)

add_library(ptqx_torch INTERFACE)
# at::parallel_for is inlined from a header and serial without OpenMP.
target_compile_options(ptqx_torch INTERFACE ${OpenMP_CXX_FLAGS})
target_link_libraries(ptqx_torch INTERFACE ptqx::torch)
set(PTQX_TORCH_LIBRARY_DIR "${PTQX_TORCH_FOLDER}/lib")

add_library(ptqx_torch_python INTERFACE)
target_link_libraries(ptqx_torch_python INTERFACE ptqx_torch Python3::Module ${PTQX_TORCH_LIBRARY_DIR}/libtorch_python.so)

execute_process(COMMAND ${Python3_EXECUTABLE} -c "import torch; print(torch.__version__)"
                OUTPUT_VARIABLE PTQX_TORCH_VERSION OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
execute_process(COMMAND ${Python3_EXECUTABLE} -c "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))"
                OUTPUT_VARIABLE PTQX_PYTHON_SUFFIX OUTPUT_STRIP_TRAILING_WHITESPACE)
