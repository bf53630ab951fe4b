#include "engine/comm/row_staging.h"

#include "absl/strings/str_cat.h"
#include "engine/synchronize.h"

namespace ballast {

RowStaging::RowStaging(const Device& device, int unit)
    : device_(device), stream_(device.create_stream(unit, /*threads=*/1)) {}

RowStaging::~RowStaging() {
  for (const Buffer& buffer : {addresses_, collected_, received_[0], received_[1]}) {
    if (buffer.data != nullptr) device_.release(buffer.data, buffer.bytes);
  }
  device_.destroy_stream(stream_);
}

absl::Status RowStaging::Grow(Buffer& buffer, size_t bytes) {
  if (bytes <= buffer.bytes) return absl::OkStatus();
  RETURN_IF_ERROR(Synchronize(device_, stream_));
  if (buffer.data != nullptr) device_.release(buffer.data, buffer.bytes);
  buffer = {device_.allocate(stream_, bytes), bytes};
  if (buffer.data != nullptr) return absl::OkStatus();
  buffer.bytes = 0;
  return absl::ResourceExhaustedError(
      absl::StrCat("exchange between ranks: no memory for ", bytes, " bytes"));
}

absl::Status RowStaging::Collect(MatView matrix, std::span<const int32_t> rows, std::byte* to) {
  if (rows.empty()) return absl::OkStatus();
  const size_t size = SizeOf(matrix.type);
  rows_.clear();
  for (const int32_t row : rows) {
    rows_.push_back(static_cast<const char*>(matrix.data) +
                    static_cast<size_t>(row * matrix.stride) * size);
  }
  const size_t bytes = rows.size() * static_cast<size_t>(matrix.cols) * size;
  RETURN_IF_ERROR(Grow(addresses_, rows_.size() * sizeof(void*)));
  RETURN_IF_ERROR(Grow(collected_, bytes));
  device_.upload(stream_, addresses_.data, rows_.data(), rows_.size() * sizeof(void*));
  device_.copy_rows(
      stream_, static_cast<const void* const*>(addresses_.data),
      {collected_.data, matrix.type, static_cast<int64_t>(rows.size()), matrix.cols, matrix.cols});
  device_.download(stream_, to, collected_.data, bytes);
  return Synchronize(device_, stream_);
}

absl::StatusOr<char*> RowStaging::Reserve(int side, size_t bytes) {
  Buffer& buffer = received_[static_cast<size_t>(side)];
  RETURN_IF_ERROR(Grow(buffer, bytes));
  return static_cast<char*>(buffer.data);
}

void RowStaging::Place(char* to, const std::byte* from, size_t bytes) {
  device_.upload(stream_, to, from, bytes);
}

absl::Status RowStaging::Wait() { return Synchronize(device_, stream_); }

}  // namespace ballast
