// main() of tests that need a GPU of the machine: without one that can be used each is skipped, and
// says why.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "kernels/cuda/cuda_device.h"

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  if (!testing::GTEST_FLAG(list_tests) && ballast::FindGpus().device == nullptr) {
    // The words by which ctest knows what was skipped.
    std::printf("[  SKIPPED ] needs a GPU: %s\n", ballast::FindGpus().problem.c_str());
    return 0;
  }
  return RUN_ALL_TESTS();
}
