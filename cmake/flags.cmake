# Compiler flags for our own code. Every target of ours links `ballast_flags`.
#
# -ffp-contract=off: results are promised to the bit, so a multiply and an add are fused only where
# the source says fma. The baseline is plain x86-64; wider instructions live in kernels/cpu/*.cc
# files that set their own -m flags.
add_library(ballast_flags INTERFACE)
target_include_directories(ballast_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(ballast_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Werror -ffp-contract=off
  # GCC 12 sees overlaps in `"text" + std::string` that are not there (GCC bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
  # Clang builds the fuzz targets; some files name warnings that only GCC has.
  $<$<CXX_COMPILER_ID:Clang>:-Wno-unknown-warning-option>)

if(BALLAST_SANITIZE)
  target_compile_options(ballast_flags INTERFACE
    -fsanitize=${BALLAST_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer
    # It opens a pipe for every look at an object, and finds fault where descriptors have run out.
    -fno-sanitize=vptr
    # Boost.Asio has fences, which ThreadSanitizer does not see.
    $<$<CXX_COMPILER_ID:GNU>:-Wno-tsan>)
  target_link_options(ballast_flags INTERFACE -fsanitize=${BALLAST_SANITIZE})
endif()

# For the libraries that fuzz targets go through: libFuzzer looks for inputs that reach new branches,
# and counting them makes inner loops three times as slow.
function(ballast_fuzzed library)
  if(BALLAST_FUZZ)
    target_compile_options(${library} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
endfunction()
