# CUDA is optional. BALLAST_CUDA says what stands behind `--device cuda` in the program:
#   OFF       nothing
#   ON        the GPUs of the machine (preset cuda): nvcc, CUDA's runtime, NCCL
#   EMULATED  kernels/cuda/emulator (preset emulated): the same sources on the CPU, for tests
# Targets that need another one than the program's have the property BALLAST_CUDA. With CUDA's
# headers and Boost.Context the tests always have the emulator too.
set(BALLAST_CUDA OFF CACHE STRING "What is behind --device cuda: OFF, ON or EMULATED")
set_property(CACHE BALLAST_CUDA PROPERTY STRINGS OFF ON EMULATED)
find_package(CUDAToolkit QUIET)
find_package(Boost 1.74 QUIET COMPONENTS context)
find_library(BALLAST_NCCL nccl HINTS ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_LIBRARY_ROOT}/lib)
find_path(BALLAST_NCCL_INCLUDE nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})

# Older ones lack what the communicator needs to give up an exchange (2.28.7 has it).
if(BALLAST_NCCL_INCLUDE)
  file(STRINGS ${BALLAST_NCCL_INCLUDE}/nccl.h revoke REGEX "ncclCommRevoke" LIMIT_COUNT 1)
  if(NOT revoke)
    message(STATUS "NCCL: ${BALLAST_NCCL_INCLUDE}/nccl.h has no ncclCommRevoke, expected 2.28.7")
    set(BALLAST_NCCL_INCLUDE)
  endif()
endif()

set(BALLAST_EMULATOR OFF)
set(missing)
if(CUDAToolkit_FOUND AND TARGET Boost::context AND BALLAST_NCCL_INCLUDE)
  set(BALLAST_EMULATOR ON)
endif()
if(CUDAToolkit_FOUND)
  set(found "CUDA ${CUDAToolkit_VERSION}")
else()
  set(found "no CUDA toolkit")
endif()
if(BALLAST_CUDA STREQUAL "ON" AND
    NOT (CUDAToolkit_FOUND AND CUDAToolkit_NVCC_EXECUTABLE AND BALLAST_NCCL AND BALLAST_NCCL_INCLUDE))
  message(FATAL_ERROR "BALLAST_CUDA=ON: found ${found}, nvcc: ${CUDAToolkit_NVCC_EXECUTABLE}, "
    "NCCL: ${BALLAST_NCCL} ${BALLAST_NCCL_INCLUDE}; expected the CUDA toolkit with nvcc, and NCCL")
endif()
if(BALLAST_CUDA STREQUAL "EMULATED" AND NOT BALLAST_EMULATOR)
  message(FATAL_ERROR "BALLAST_CUDA=EMULATED: found ${found}, expected the headers of the CUDA "
    "toolkit and NCCL, and Boost.Context (Debian: libboost-context-dev)")
endif()
if(BALLAST_EMULATOR)
  message(STATUS "CUDA: ${found}; the program has it ${BALLAST_CUDA}, the tests emulated")
else()
  message(STATUS "CUDA: ${found}; the program has it ${BALLAST_CUDA}, the tests leave it out "
    "(the emulator needs CUDA's and NCCL's headers and libboost-context-dev)")
endif()

# ballast_library_of_device(NAME): what links NAME gets NAME_OFF, NAME_EMULATED or NAME_ON, as the
# property BALLAST_CUDA of its executable says, or BALLAST_CUDA itself.
function(ballast_library_of_device name)
  set(own $<TARGET_PROPERTY:BALLAST_CUDA>)
  add_library(${name} INTERFACE)
  target_link_libraries(${name} INTERFACE
    $<IF:$<STREQUAL:${own},>,${name}_${BALLAST_CUDA},${name}_${own}>)
endfunction()

# ballast_gpu_objects(OUT SOURCE.cu...): compiles them with nvcc for every GPU that is meant, as
# <name>.o in the current binary folder; OUT gets their list. Warnings are errors, and so are spilled
# registers and arrays in local memory, for every kernel is hot. -fmad=false: multiplications and
# additions are fused where the source says so. Their PTX is kept in gpu/ there, as
# <name>.compute_80.ptx and so on, for tests/kernels/cuda/check_gpu_code.
function(ballast_gpu_objects out)
  set(objects)
  file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/gpu)
  foreach(source ${ARGN})
    get_filename_component(name ${source} NAME_WE)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}.cu.o)
    add_custom_command(OUTPUT ${object}
      COMMAND ${CUDAToolkit_NVCC_EXECUTABLE} -std=c++17 -O3 -I${PROJECT_SOURCE_DIR} -fmad=false
        -Werror all-warnings -Xptxas --warn-on-spills,--warn-on-local-memory-usage
        -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90
        -gencode arch=compute_100,code=sm_100 --keep --keep-dir gpu
        -MD -MF ${name}.cu.d -c ${CMAKE_CURRENT_SOURCE_DIR}/${source} -o ${object}
      DEPENDS ${source} DEPFILE ${name}.cu.d
      WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}
      COMMENT "Compiling ${source} with nvcc" VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  set(${out} ${objects} PARENT_SCOPE)
endfunction()
