#include "engine/sampler.h"

#include <algorithm>

#include "engine/synchronize.h"

namespace ballast {
namespace {

template <typename T>
Range Append(const std::vector<T>& all, Range part, std::vector<T>& to) {
  const auto begin = static_cast<int32_t>(to.size());
  to.insert(to.end(), all.begin() + part.begin, all.begin() + part.end);
  return {begin, static_cast<int32_t>(to.size())};
}

// Draws the tile's tokens, as many rows at a time as have room for their side arrays.
class TileDraw {
 public:
  TileDraw(const Device& device, Stream stream, const Workspace& buffers, SampleStaging& staging)
      : device_(device), stream_(stream), buffers_(buffers), staging_(staging) {
    staging.rows.clear();
  }

  void Add(const RankBatch& batch, const SampleRow& row) {
    if (!Fits(row)) Flush();
    CHECK(Fits(row));
    SampleParameters& added = staging_.rows.emplace_back(row);
    added.bias = Append(batch.bias, row.bias, staging_.bias);
    added.banned = Append(batch.banned, row.banned, staging_.banned);
    added.history = Append(batch.history, row.history, staging_.history);
  }

  // Draws for the rows added since the last call.
  void Flush() {
    const auto rows = static_cast<int64_t>(staging_.rows.size()) - drawn_;
    if (rows == 0) return;
    Upload(buffers_.samples + drawn_, std::span(staging_.rows).subspan(drawn_));
    Upload(buffers_.bias, std::span(staging_.bias));
    Upload(buffers_.banned, std::span(staging_.banned));
    Upload(buffers_.history, std::span(staging_.history));
    MatView logits = buffers_.logits;
    logits.data = static_cast<float*>(logits.data) + drawn_ * logits.stride;
    logits.rows = rows;
    device_.sample(stream_, logits, buffers_.samples + drawn_,
                   {buffers_.bias, buffers_.banned, buffers_.history}, buffers_.sampled + drawn_);
    drawn_ += rows;
    staging_.bias.clear();
    staging_.banned.clear();
    staging_.history.clear();
  }

 private:
  bool Fits(const SampleRow& row) const {
    const auto fits = [this](const auto& staged, Range range) {
      return static_cast<int64_t>(staged.size()) + range.size() <= buffers_.side_entries;
    };
    return fits(staging_.bias, row.bias) && fits(staging_.banned, row.banned) &&
           fits(staging_.history, row.history);
  }

  template <typename T>
  void Upload(T* to, std::span<T> from) {
    if (!from.empty()) device_.upload(stream_, to, from.data(), from.size_bytes());
  }

  const Device& device_;
  const Stream stream_;
  const Workspace& buffers_;
  SampleStaging& staging_;
  int64_t drawn_ = 0;
};

}  // namespace

absl::Status SampleTile(const Device& device, Stream stream, const Workspace& buffers,
                        const RankBatch& batch, int64_t begin, SampleStaging& staging,
                        std::span<Sampled> sampled) {
  const std::span rows = std::span(batch.samples).subspan(begin, sampled.size());
  const int64_t vocab = buffers.logits.cols;
  const auto scored = std::count_if(rows.begin(), rows.end(),
                                    [](const SampleRow& row) { return row.logprobs >= 0; });
  staging.logits.resize(scored * vocab);
  float* raw = staging.logits.data();
  TileDraw draw(device, stream, buffers, staging);
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].logprobs >= 0) {
      const auto* from = static_cast<const float*>(buffers.logits.data) +
                         static_cast<int64_t>(i) * buffers.logits.stride;
      device.download(stream, raw, from, vocab * sizeof(float));
      raw += vocab;
    }
    draw.Add(batch, rows[i]);
  }
  draw.Flush();
  staging.tokens.resize(rows.size());
  device.download(stream, staging.tokens.data(), buffers.sampled, rows.size() * sizeof(int32_t));
  RETURN_IF_ERROR(Synchronize(device, stream));
  raw = staging.logits.data();
  for (size_t i = 0; i < rows.size(); ++i) {
    sampled[i] = {staging.tokens[i], std::nullopt};
    if (rows[i].logprobs < 0) continue;
    const int32_t token = rows[i].target >= 0 ? rows[i].target : staging.tokens[i];
    if (token >= 0) {
      const std::span<const float> logits(raw, vocab);
      sampled[i].logprobs = ScoreToken(logits, token, rows[i].logprobs, staging.scratch);
    }
    raw += vocab;
  }
  return absl::OkStatus();
}

}  // namespace ballast
