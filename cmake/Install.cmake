# Everything goes into one folder, the Python package's: lib/, include/ptqx/, lib/cmake/ptqx/, _C.
include(CMakePackageConfigHelpers)
set(config_dir lib/cmake/ptqx)

install(TARGETS ptqx_kernels ptqx_engine EXPORT ptqxTargets ARCHIVE DESTINATION lib)
# The public headers; the others are how these are made.
install(DIRECTORY csrc/kernels DESTINATION include/ptqx FILES_MATCHING PATTERN "*.h" PATTERN "simd_*.h" EXCLUDE)
install(FILES csrc/engine/engine.h csrc/engine/tuning.h csrc/engine/executor.h csrc/engine/container.h csrc/engine/conv2d.h csrc/engine/image_options.h
        DESTINATION include/ptqx/engine)
if(PTQX_TORCH)
  # A program links ptqx_ops for its registrations and calls it by the dispatcher: no torch in the export.
  install(TARGETS ptqx_ops LIBRARY DESTINATION lib)
  install(TARGETS _C LIBRARY DESTINATION .)
endif()
install(EXPORT ptqxTargets NAMESPACE ptqx:: DESTINATION ${config_dir})
configure_package_config_file(cmake/ptqxConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/ptqxConfig.cmake
                              INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/ptqxConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/ptqxConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/ptqxConfigVersion.cmake
        cmake/ptqxTorch.cmake DESTINATION ${config_dir})
