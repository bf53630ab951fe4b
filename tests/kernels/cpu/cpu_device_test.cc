#include "kernels/cpu/cpu_device.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <string_view>

namespace ballast {
namespace {

TEST(CpuDevice, TheReferenceIsEverywhere) {
  const Device* device = FindCpuDevice("reference");
  ASSERT_NE(device, nullptr);
  EXPECT_EQ(std::string_view(device->name), "cpu");
  EXPECT_EQ(std::string_view(device->kernels), "reference");
}

TEST(CpuDevice, AutoIsTheLastOfTheSetsItNames) {
  const std::string_view sets = CpuKernelSets();
  const std::string_view last = sets.substr(sets.rfind(' ') + 1);
  EXPECT_EQ(FindCpuDevice("auto"), FindCpuDevice(last));
  EXPECT_NE(FindCpuDevice("auto"), nullptr);
}

TEST(CpuDevice, UnknownNamesAreRefused) {
  EXPECT_EQ(FindCpuDevice(""), nullptr);
  EXPECT_EQ(FindCpuDevice("avx512-"), nullptr);
  EXPECT_EQ(FindCpuDevice("AVX2"), nullptr);
}

TEST(CpuDevice, MemoryIsAlignedAndWritable) {
  const Device& device = *FindCpuDevice("reference");
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{4096}, size_t{5} << 20}) {
    void* data = device.allocate({}, bytes);
    ASSERT_NE(data, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 64, 0u);
    if (bytes > 0) std::memset(data, 1, bytes);
    device.release(data, bytes);
  }
}

TEST(CpuDevice, MoreMemoryThanThereIsGivesNull) {
  const Device& device = *FindCpuDevice("reference");
  EXPECT_EQ(device.allocate({}, SIZE_MAX), nullptr);
  EXPECT_EQ(device.allocate({}, size_t{1} << 60), nullptr);
}

TEST(CpuDevice, UploadAndDownloadCopy) {
  const Device& device = *FindCpuDevice("reference");
  const Stream stream = device.create_stream(0, 1);
  const int there[] = {1, 2, 3};
  int back[3] = {};
  void* data = device.allocate({}, sizeof there);
  device.upload(stream, data, there, sizeof there);
  device.download(stream, back, data, sizeof back);
  EXPECT_EQ(device.synchronize(stream), nullptr);
  EXPECT_EQ(std::memcmp(there, back, sizeof there), 0);
  device.release(data, sizeof there);
  device.destroy_stream(stream);
}

TEST(CpuDevice, HasSomeMemoryAndNoUnitsOfItsOwn) {
  const Device& device = *FindCpuDevice("reference");
  EXPECT_EQ(device.units(), 0);
  EXPECT_GT(device.available_memory(0), size_t{1} << 20);
  EXPECT_LT(device.available_memory(0), size_t{1} << 50);
}

}  // namespace
}  // namespace ballast
