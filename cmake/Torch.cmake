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
find_package(Torch REQUIRED)
find_package(OpenMP REQUIRED)

add_library(ptqx_torch INTERFACE)
# System headers: their warnings are not ours.
target_include_directories(ptqx_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
separate_arguments(torch_flags UNIX_COMMAND "${TORCH_CXX_FLAGS}")
# at::parallel_for is inlined from a header and serial without OpenMP.
target_compile_options(ptqx_torch INTERFACE ${torch_flags} ${OpenMP_CXX_FLAGS})
get_filename_component(PTQX_TORCH_LIBRARY_DIR "${TORCH_INSTALL_PREFIX}/lib" ABSOLUTE)
target_link_libraries(ptqx_torch INTERFACE ${PTQX_TORCH_LIBRARY_DIR}/libtorch.so ${PTQX_TORCH_LIBRARY_DIR}/libtorch_cpu.so
                                           ${PTQX_TORCH_LIBRARY_DIR}/libc10.so)

add_library(ptqx_torch_python INTERFACE)
target_link_libraries(ptqx_torch_python INTERFACE ptqx_torch Python3::Module ${PTQX_TORCH_LIBRARY_DIR}/libtorch_python.so)

set(PTQX_TORCH_VERSION ${Torch_VERSION})
execute_process(COMMAND ${Python3_EXECUTABLE} -c "import torch; print(torch.__version__)"
                OUTPUT_VARIABLE torch_version OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(torch_version)
  set(PTQX_TORCH_VERSION ${torch_version})
endif()
execute_process(COMMAND ${Python3_EXECUTABLE} -c "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))"
                OUTPUT_VARIABLE PTQX_PYTHON_SUFFIX OUTPUT_STRIP_TRAILING_WHITESPACE)
