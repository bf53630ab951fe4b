// The verbs of device.h on the CPU, one file each; contracts there.
#pragma once

#include "kernels/device.h"

namespace ballast::cpu {

size_t PackedBytes(DType type, int64_t n, int64_t k);
void Pack(Stream stream, HostMatrix in, PackedMatrix out);
void Embed(Stream stream, const PackedMatrix& table, const int32_t* ids, MatView out);

void RmsNorm(Stream stream, MatView x, const float* weight, float eps, MatView out);
void Convert(Stream stream, MatView x, MatView out);
void Clamp(Stream stream, MatView x, float limit);
void Rope(Stream stream, HeadsView x, const float* cos_sin, int64_t rotary_dim, bool interleaved,
          HeadsView out);
void CopyRows(Stream stream, const void* const* rows, MatView out);
void Combine(Stream stream, const float* const* rows, const float* weights, int32_t k,
             MatView shared, MatView out);

void Matmul(Stream stream, MatView x, const MatmulGroup* groups, int64_t num_groups, MatView out,
            bool accumulate);
void GateUp(Stream stream, MatView x, const GateUpGroup* groups, int64_t num_groups, MatView out);

size_t KvBytes(const KvCache& cache);
void WriteKv(Stream stream, const KvCache& cache, HeadsView k, HeadsView v, const int32_t* slots);
void Attention(Stream stream, const KvCache& cache, HeadsView q, const AttentionBatch& batch,
               float scale, int32_t window, const float* sinks, HeadsView out);

void Route(Stream stream, MatView logits, const RouterConfig& config, const float* bias,
           int32_t* ids, float* weights);

void RunExperts(Stream stream, MatView x, const int32_t* ids, int32_t k, const ExpertTable& table,
                const ExpertRows& rows);

void Sample(Stream stream, MatView logits, const SampleParameters* rows, const SampleSides& sides,
            int32_t* tokens);

}  // namespace ballast::cpu
