#include "engine/checkpoint/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/concat.h"

namespace ballast {
namespace {

// Closes on every way out.
struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

absl::Status SystemError(const std::string& path, const char* what) {
  const int error = errno;
  std::string message = Concat(path, ": ", what, ": ", std::strerror(error));
  if (error == ENOENT || error == ENOTDIR) return absl::NotFoundError(message);
  return absl::FailedPreconditionError(message);
}

// Opens a regular file and tells its size.
absl::Status OpenRegular(const std::string& path, Descriptor& descriptor, size_t& size) {
  // Without O_NONBLOCK a FIFO in the folder would hang the open.
  descriptor.fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor.fd < 0) return SystemError(path, "cannot open");
  struct stat facts;
  if (fstat(descriptor.fd, &facts) != 0) return SystemError(path, "cannot stat");
  if (!S_ISREG(facts.st_mode)) {
    return absl::InvalidArgumentError(Concat(path, ": not a regular file"));
  }
  size = static_cast<size_t>(facts.st_size);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t limit) {
  Descriptor descriptor;
  size_t size = 0;
  RETURN_IF_ERROR(OpenRegular(path, descriptor, size));
  if (size > limit) {
    return absl::InvalidArgumentError(
        Concat(path, ": has ", size, " bytes, expected at most ", limit));
  }
  std::string text(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t got = read(descriptor.fd, text.data() + done, size - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError(path, "cannot read");
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  text.resize(done);
  return text;
}

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  Descriptor descriptor;
  size_t size = 0;
  RETURN_IF_ERROR(OpenRegular(path, descriptor, size));
  if (size == 0) return MappedFile(nullptr, 0);
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor.fd, 0);
  if (data == MAP_FAILED) return SystemError(path, "cannot map");
  return MappedFile(data, size);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(data_, size_);
}

void MappedFile::Discard(const void* data, size_t size) const {
  if (size == 0 || data_ == nullptr) return;
  // Outwards to whole pages: a neighbour that is still wanted is read again from the page cache,
  // while rounding inwards would leave the edges of small tensors resident for good.
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data) / page * page;
  const uintptr_t last = reinterpret_cast<uintptr_t>(data_) + size_;
  const uintptr_t end = std::min(reinterpret_cast<uintptr_t>(data) + size, last);
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace ballast
