#include "engine/moe/document.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "engine/concat.h"

namespace ballast {
namespace {

// Puts a parser's events together. After the first error every call returns false.
class TreeBuilder {
 public:
  // A key where a map expects one. `number`: its value, when the parser knows it or it is written
  // as one.
  bool Scalar(std::string_view text, std::optional<double> number) {
    if (text.size() > kMaxScalarBytes) {
      return Fail(Concat("found a text of ", text.size(), " bytes, expected ", kMaxScalarBytes,
                         " at most"));
    }
    if (ExpectsKey()) {
      open_.back()->keys.emplace_back(text);
      return ok();
    }
    if (!open_.empty() && open_.back()->kind == DocumentNode::Kind::kList) {
      DocumentNode& list = *open_.back();
      if (number.has_value() && std::isfinite(*number)) {
        list.numbers.push_back(*number);
      } else if (list.odd.empty()) {
        list.odd = Concat("\"", text, "\"");
      }
      return ok();
    }
    DocumentNode* node = Add(DocumentNode::Kind::kScalar);
    if (node != nullptr) node->text = std::string(text);
    return ok();
  }
  bool Nothing() {
    if (ExpectsKey()) return Fail("found a key that is empty");
    if (!open_.empty() && open_.back()->kind == DocumentNode::Kind::kList) {
      return Scalar("null", std::nullopt);
    }
    Add(DocumentNode::Kind::kNothing);
    return ok();
  }
  bool Begin(DocumentNode::Kind kind) {
    if (ExpectsKey()) return Fail("found a key that is a list or a map");
    if (open_.size() >= kMaxDocumentDepth) {
      return Fail(Concat("found more than ", kMaxDocumentDepth, " lists and maps in each other"));
    }
    DocumentNode* node = Add(kind);
    if (node != nullptr) open_.push_back(node);
    return ok();
  }
  bool End() {
    if (!ok()) return false;
    std::vector<std::string> keys = open_.back()->keys;
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice != keys.end()) return Fail(Concat("found the key ", *twice, " twice"));
    open_.pop_back();
    return true;
  }
  bool Fail(std::string what) {
    if (error_.empty()) error_ = std::move(what);
    return false;
  }

  bool ok() const { return error_.empty(); }
  const std::string& error() const { return error_; }
  DocumentNode TakeRoot() { return std::move(root_); }

 private:
  bool ExpectsKey() const {
    return ok() && !open_.empty() && open_.back()->kind == DocumentNode::Kind::kMap &&
           open_.back()->keys.size() == open_.back()->items.size();
  }
  // Null after an error. What is open stays where it is: only the last of a node's items is open.
  DocumentNode* Add(DocumentNode::Kind kind) {
    if (!ok()) return nullptr;
    if (++nodes_ > kMaxDocumentNodes) {
      Fail(Concat("found more than ", kMaxDocumentNodes, " lists, maps and single values"));
      return nullptr;
    }
    DocumentNode* node = &root_;
    if (!open_.empty()) node = &open_.back()->items.emplace_back();
    node->kind = kind;
    return node;
  }

  DocumentNode root_;
  std::vector<DocumentNode*> open_;  // root first
  size_t nodes_ = 0;
  std::string error_;
};

std::string AsWritten(double number) { return absl::StrCat(number); }

class JsonEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit JsonEvents(TreeBuilder& tree) : tree_(tree) {}

  bool null() override { return tree_.Nothing(); }
  bool boolean(bool value) override { return tree_.Scalar(value ? "true" : "false", std::nullopt); }
  bool number_integer(int64_t value) override { return Number(static_cast<double>(value)); }
  bool number_unsigned(uint64_t value) override { return Number(static_cast<double>(value)); }
  bool number_float(double value, const std::string&) override { return Number(value); }
  bool string(std::string& value) override { return tree_.Scalar(value, std::nullopt); }
  bool binary(nlohmann::json::binary_t&) override { return false; }  // JSON has none
  bool start_object(size_t) override { return tree_.Begin(DocumentNode::Kind::kMap); }
  bool key(std::string& value) override { return tree_.Scalar(value, std::nullopt); }
  bool end_object() override { return tree_.End(); }
  bool start_array(size_t) override { return tree_.Begin(DocumentNode::Kind::kList); }
  bool end_array() override { return tree_.End(); }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    return tree_.Fail(Concat("not JSON at byte ", position));
  }

 private:
  bool Number(double value) { return tree_.Scalar(AsWritten(value), value); }

  TreeBuilder& tree_;
};

class YamlEvents : public YAML::EventHandler {
 public:
  explicit YamlEvents(TreeBuilder& tree) : tree_(tree) {}

  void OnDocumentStart(const YAML::Mark&) override {
    if (++documents_ > 1) tree_.Fail("found more than one YAML document");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { At(mark, tree_.Nothing()); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    At(mark, tree_.Fail("found an alias, expected the values themselves"));
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& value) override {
    double number = 0;
    const bool plain = tag == "?";
    const bool is_number = plain && absl::SimpleAtod(value, &number);
    At(mark, tree_.Scalar(value, is_number ? std::optional(number) : std::nullopt));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    At(mark, tree_.Begin(DocumentNode::Kind::kList));
  }
  void OnSequenceEnd() override { tree_.End(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    At(mark, tree_.Begin(DocumentNode::Kind::kMap));
  }
  void OnMapEnd() override { tree_.End(); }

  // Where the first error was; 0: at a place without a line.
  int error_line() const { return error_line_; }

 private:
  void At(const YAML::Mark& mark, bool ok) {
    if (!ok && error_line_ == 0) error_line_ = mark.line + 1;
  }

  TreeBuilder& tree_;
  int documents_ = 0;
  int error_line_ = 0;
};

absl::StatusOr<DocumentNode> ParseJson(std::string_view text, const std::string& name) {
  TreeBuilder tree;
  JsonEvents events(tree);
  const bool parsed = nlohmann::json::sax_parse(text.begin(), text.end(), &events);
  if (!parsed || !tree.ok()) return absl::InvalidArgumentError(Concat(name, ": ", tree.error()));
  return tree.TakeRoot();
}

absl::StatusOr<DocumentNode> ParseYaml(std::string_view text, const std::string& name) {
  TreeBuilder tree;
  YamlEvents events(tree);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    while (tree.ok() && parser.HandleNextDocument(events)) {
    }
  } catch (const YAML::Exception& error) {
    tree.Fail(Concat("not YAML at line ", error.mark.line + 1, ": ", error.msg));
  }
  if (tree.ok()) return tree.TakeRoot();
  const std::string line = events.error_line() > 0 ? absl::StrCat(":", events.error_line()) : "";
  return absl::InvalidArgumentError(Concat(name, line, ": ", tree.error()));
}

}  // namespace

const DocumentNode* DocumentNode::Find(std::string_view key) const {
  const auto at = std::find(keys.begin(), keys.end(), key);
  return at == keys.end() ? nullptr : &items[static_cast<size_t>(at - keys.begin())];
}

std::string Describe(const DocumentNode& node) {
  switch (node.kind) {
    case DocumentNode::Kind::kNothing:
      return "nothing";
    case DocumentNode::Kind::kScalar:
      return node.text;
    case DocumentNode::Kind::kList:
      return "a list";
    case DocumentNode::Kind::kMap:
      return "a map";
  }
  return "";
}

absl::StatusOr<DocumentNode> ParseDocument(std::string_view text, const std::string& name) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  const bool looks_like_json = begin != std::string_view::npos && text[begin] == '{';
  const size_t limit = looks_like_json ? kMaxJsonBytes : kMaxYamlBytes;
  if (text.size() > limit) {
    return absl::InvalidArgumentError(Concat(name, ": found ", text.size(),
                                             " bytes, expected at most ", limit, " of ",
                                             looks_like_json ? "JSON" : "YAML"));
  }
  if (!looks_like_json) return ParseYaml(text, name);
  absl::StatusOr<DocumentNode> json = ParseJson(text, name);
  if (json.ok() || text.size() > kMaxYamlBytes) return json;
  // {a: 1} is YAML; what is neither was most likely meant to be JSON.
  absl::StatusOr<DocumentNode> yaml = ParseYaml(text, name);
  return yaml.ok() ? std::move(yaml) : std::move(json);
}

}  // namespace ballast
