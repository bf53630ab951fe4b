#include "engine/comm/row_staging.h"

#include "engine/comm/communicator.h"
#include "engine/synchronize.h"

namespace ballast {

RowStaging::RowStaging(const Device& device, int unit)
    : device_(device),
      stream_(device.create_stream(unit, /*threads=*/1)),
      addresses_(device, stream_),
      collected_(device, stream_),
      received_{DeviceBuffer(device, stream_), DeviceBuffer(device, stream_)} {}

absl::Status RowStaging::Collect(MatView matrix, std::span<const int32_t> rows, std::byte* to) {
  if (rows.empty()) return absl::OkStatus();
  rows_.clear();
  for (const int32_t row : rows) rows_.push_back(RowAt(matrix, row));
  const size_t bytes = rows.size() * static_cast<size_t>(RowBytes(matrix));
  RETURN_IF_ERROR(addresses_.Reserve(rows_.size() * sizeof(void*)));
  RETURN_IF_ERROR(collected_.Reserve(bytes));
  device_.upload(stream_, addresses_.data(), rows_.data(), rows_.size() * sizeof(void*));
  device_.copy_rows(stream_, reinterpret_cast<const void* const*>(addresses_.data()),
                    {collected_.data(), matrix.type, static_cast<int64_t>(rows.size()), matrix.cols,
                     matrix.cols});
  device_.download(stream_, to, collected_.data(), bytes);
  return Synchronize(device_, stream_);
}

absl::StatusOr<char*> RowStaging::Reserve(int side, size_t bytes) {
  DeviceBuffer& buffer = received_[static_cast<size_t>(side)];
  RETURN_IF_ERROR(buffer.Reserve(bytes));
  return reinterpret_cast<char*>(buffer.data());
}

void RowStaging::Place(char* to, const std::byte* from, size_t bytes) {
  device_.upload(stream_, to, from, bytes);
}

absl::Status RowStaging::Wait() { return Synchronize(device_, stream_); }

}  // namespace ballast
