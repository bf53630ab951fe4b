# CUDA is optional: kernels/cuda is not part of the program yet. With CUDA's headers and Boost.Context
# the tests run its emulator; with nvcc they compile its sample kernels for every GPU that is meant.
find_package(CUDAToolkit QUIET)
find_package(Boost 1.74 QUIET COMPONENTS context)
set(BALLAST_EMULATOR OFF)
if(CUDAToolkit_FOUND AND TARGET Boost::context)
  set(BALLAST_EMULATOR ON)
  message(STATUS "CUDA: ${CUDAToolkit_VERSION}, the emulator is tested")
elseif(CUDAToolkit_FOUND)
  message(STATUS "CUDA: ${CUDAToolkit_VERSION}, the emulator is left out (Debian: libboost-context-dev)")
else()
  message(STATUS "CUDA: not found, the emulator is left out")
endif()
