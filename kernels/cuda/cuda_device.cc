#include "kernels/cuda/cuda_device.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda_stream.h"
#include "kernels/cuda/experts.h"
#include "kernels/cuda/find_gpus.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/pack.h"
#include "kernels/cuda/router.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sampling.h"

namespace ballast {
namespace cuda {
namespace {

// --- memory and streams -------------------------------------------------------------------------

size_t AvailableMemory(int unit) {
  size_t free = 0;
  size_t total = 0;
  if (cudaSetDevice(unit) != cudaSuccess) return 0;
  return cudaMemGetInfo(&free, &total) == cudaSuccess ? free : 0;
}

Stream CreateStream(int unit, int /*threads*/) { return {new CudaStream(unit)}; }

void DestroyStream(Stream stream) { delete &StreamOf(stream); }

// cudaMalloc aligns to 256 bytes.
void* Allocate(Stream stream, size_t bytes) {
  void* memory = nullptr;
  if (!StreamOf(stream).Ready() || cudaMalloc(&memory, bytes) != cudaSuccess) {
    cudaGetLastError();  // is not an error of the stream's
    return nullptr;
  }
  return memory;
}

// Waits for all work of the GPU, as cudaFree does.
void Release(void* data, size_t /*bytes*/) { cudaFree(data); }

void Upload(Stream stream, void* to, const void* from, size_t bytes) {
  StreamOf(stream).Upload(to, from, bytes);
}

void Download(Stream stream, void* to, const void* from, size_t bytes) {
  StreamOf(stream).Download(to, from, bytes);
}

const char* Synchronize(Stream stream) { return StreamOf(stream).Synchronize(); }

const char* AwaitDownloads(Stream stream) { return StreamOf(stream).AwaitDownloads(); }

// Gives a stream's queue something to do: enqueue(queue) tells how that went.
template <typename Enqueue>
void Give(Stream handle, const char* what, const Enqueue& enqueue) {
  CudaStream& stream = StreamOf(handle);
  if (stream.Ready()) stream.Note(what, enqueue(stream.queue()));
}

void Copy(Stream stream, void* to, const void* from, size_t bytes) {
  Give(stream, "copy", [&](cudaStream_t queue) {
    return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, queue);
  });
}

// --- verbs --------------------------------------------------------------------------------------

void PackWeights(Stream stream, HostMatrix in, PackedMatrix out) {
  Pack(StreamOf(stream), in, out);
}

// A verb that enqueues one kernel.
template <auto kVerb>
struct Verb;
template <typename... Arguments, cudaError_t (*kVerb)(cudaStream_t, Arguments...)>
struct Verb<kVerb> {
  static void Run(Stream stream, Arguments... arguments) {
    Give(stream, "kernel launch", [&](cudaStream_t queue) { return kVerb(queue, arguments...); });
  }
};

// Groups in device memory; null for the one that comes with the launch.
const TiledGroup* UploadGroups(CudaStream& stream, const TilePlan& plan) {
  if (plan.groups.size() <= 1) return nullptr;
  const size_t bytes = plan.groups.size() * sizeof(TiledGroup);
  return static_cast<const TiledGroup*>(stream.Constants(plan.groups.data(), bytes));
}

DType TypeOf(const MatmulGroup& group) { return group.weight->type; }
DType TypeOf(const GateUpGroup& group) { return group.gate->type; }

// The weights of one launch have one type; groups of both are two launches. launch(plan, list).
template <typename Group, typename LaunchPlan>
void GiveGroups(Stream stream, const char* what, DType x, const Group* groups, int64_t count,
                const LaunchPlan& launch) {
  const auto give = [&](const Group* some, int64_t number) {
    const TilePlan plan = PlanTiles(x, some, number);
    const TiledGroup* const list = UploadGroups(StreamOf(stream), plan);
    Give(stream, what, [&](cudaStream_t queue) { return launch(queue, plan, list); });
  };
  const auto other = std::find_if(groups, groups + count, [&](const Group& group) {
    return TypeOf(group) != TypeOf(groups[0]);
  });
  if (other == groups + count) return give(groups, count);
  for (const DType type : {DType::kF32, DType::kBF16}) {
    std::vector<Group> alike;
    std::copy_if(groups, groups + count, std::back_inserter(alike),
                 [&](const Group& group) { return TypeOf(group) == type; });
    give(alike.data(), static_cast<int64_t>(alike.size()));
  }
}

void MatmulGroups(Stream stream, MatView x, const MatmulGroup* groups, int64_t num_groups,
                  MatView out, bool accumulate) {
  GiveGroups(stream, "matmul", x.type, groups, num_groups,
             [&](cudaStream_t queue, const TilePlan& plan, const TiledGroup* list) {
               return Matmul(queue, x, plan, list, out, accumulate);
             });
}

void GateUpGroups(Stream stream, MatView x, const GateUpGroup* groups, int64_t num_groups,
                  MatView out) {
  for (int64_t i = 0; i < num_groups; ++i) {
    if (groups[i].gate->type != groups[i].up->type) {
      StreamOf(stream).Note("gate_up: gate and up of different types", cudaErrorInvalidValue);
    }
  }
  GiveGroups(stream, "gate_up", x.type, groups, num_groups,
             [&](cudaStream_t queue, const TilePlan& plan, const TiledGroup* list) {
               return GateUp(queue, x, plan, list, out);
             });
}

void AttentionOfBatch(Stream stream, const KvCache& cache, HeadsView q, const AttentionBatch& batch,
                      float scale, int32_t window, const float* sinks, HeadsView out) {
  const size_t bytes = AttentionScratchBytes(cache, q, batch, window);
  void* const scratch = bytes == 0 ? nullptr : StreamOf(stream).Reserve(bytes);
  Give(stream, "attention", [&](cudaStream_t queue) {
    return Attention(queue, cache, q, batch, scale, window, sinks, out, scratch);
  });
}

void RunAllExperts(Stream stream, MatView x, const int32_t* ids, int32_t k,
                   const ExpertTable& table, const ExpertRows& rows) {
  void* const scratch = StreamOf(stream).Reserve(ExpertScratchBytes(x.rows * k, table.count));
  Give(stream, "run_experts",
       [&](cudaStream_t queue) { return RunExperts(queue, x, ids, k, table, rows, scratch); });
}

// `kernels` outlives it.
Device MakeDevice(const std::string& kernels) {
  return {
      .name = "cuda",
      .kernels = kernels.c_str(),
      .host_memory = false,
      .units = [] { return static_cast<int>(FindGpus().gpus.size()); },
      .available_memory = AvailableMemory,
      .create_stream = CreateStream,
      .destroy_stream = DestroyStream,
      .allocate = Allocate,
      .release = Release,
      .upload = Upload,
      .download = Download,
      .copy = Copy,
      .synchronize = Synchronize,
      .await_downloads = AwaitDownloads,
      .replay = [](Stream stream, uint64_t key) { return StreamOf(stream).Replay(key); },
      .end_piece = [](Stream stream) { StreamOf(stream).EndPiece(); },
      .packed_bytes = PackedBytes,
      .pack = PackWeights,
      .embed = Verb<Embed>::Run,
      .rms_norm = Verb<RmsNorm>::Run,
      .convert = Verb<Convert>::Run,
      .clamp = Verb<Clamp>::Run,
      .rope = Verb<Rope>::Run,
      .matmul = MatmulGroups,
      .gate_up = GateUpGroups,
      .kv_bytes = KvBytes,
      .write_kv = Verb<WriteKv>::Run,
      .attention = AttentionOfBatch,
      .route = Verb<Route>::Run,
      .copy_rows = Verb<CopyRows>::Run,
      .combine = Verb<Combine>::Run,
      .run_experts = RunAllExperts,
      .sample = Verb<Sample>::Run,
  };
}

GpuSearch Search() {
  GpuSearch search;
  const std::vector<Gpu> gpus = ListGpus(&search.problem);
  if (search.problem.empty()) search.problem = CheckGpus(gpus);
  if (!search.problem.empty()) return search;
  for (const Gpu& gpu : gpus) search.gpus.push_back(Describe(gpu));
  static const std::string kernels = NamesOf({&gpus[0].architecture, 1});
  static const Device device = MakeDevice(kernels);
  search.device = &device;
  return search;
}

}  // namespace
}  // namespace cuda

const GpuSearch& FindGpus() {
  static const GpuSearch search = cuda::Search();
  return search;
}

}  // namespace ballast
