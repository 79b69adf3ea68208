#include "batches.hpp"
#include "json.hpp"
#include "model_file.hpp"
#include "ranking.hpp"
#include "sealed_file.hpp"
#include "sha256.hpp"
#include "throws.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

using namespace microinfer;
using namespace microinfer::runtime;
using microinfer::tests::expect_throws;

namespace {

std::string sha256(const std::string& text, std::size_t piece) {
    Sha256 sum;
    for (std::size_t at = 0; at < text.size(); at += piece) {
        const std::string part = text.substr(at, piece);
        sum.add(reinterpret_cast<const unsigned char*>(part.data()), part.size());
    }
    return sum.digest();
}

/// A file that is gone when the test ends.
class TemporaryFile {
  public:
    explicit TemporaryFile(const std::string& bytes)
        : path_(std::filesystem::temp_directory_path() /
                ("microinfer" + std::to_string(std::random_device{}()))) {
        std::ofstream(path_, std::ios::binary) << bytes;
    }
    ~TemporaryFile() { std::filesystem::remove(path_); }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;

    [[nodiscard]] std::string path() const { return path_.string(); }

  private:
    std::filesystem::path path_;
};

std::string sealed(const std::string& body, const std::string& version = "1") {
    const std::string text = body + "microinfer export " + version + " aoti sha256 ";
    return text + sha256(text, text.size());
}

const std::string kMetadata = R"({
  "format": "aoti", "device": "cpu", "dtype": "float32", "microinfer": "0.1.0", "name": "c\u00fc",
  "kind": "posterior", "processor": "AVX2", "voltage": 3e5, "k_max": 2.0, "calibration": [1.5, -0.5],
  "tokens": {"radius_max": 2.99, "radius_bins": 256, "angle_bins": 360, "intensity_min": 0.001,
             "intensity_bins": 64, "direct_beam_radius": 0.05, "max_disks": 76, "min_disks": 2},
  "refinement": {"wavelength": 0.0197, "match_radius": 0.04, "position_error": 3e-4, "excitation_error": 0.02,
                 "excitation_slope": 0.014, "tilt_error": 90, "in_plane_error": 180, "false_share": 0.05,
                 "steps": 6, "least_probability": 1e-4, "evidence": 0.3, "margin": 0.5},
  "phases": [{"name": "Cu", "space_group": "Fm-3m", "point_group": "m-3m", "lattice": [4, 4, 4, 90, 90, 90],
              "operators": [[[1, 0, 0], [0, 1, 0], [0, 0, 1]]],
              "reciprocal": [[0.25, 0, 0], [0, 0.25, 0], [0, 0, 0.25]],
              "reflections": [[1, 1, -2, 7.5]]}]})";

}  // namespace

TEST(Sha256, GivesTheStandardsChecksums) {
    EXPECT_EQ(sha256("", 1), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(sha256("abc", 3), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const std::string million(1000000, 'a');
    for (const std::size_t piece : {std::size_t{1}, std::size_t{63}, million.size()}) {
        EXPECT_EQ(sha256(million, piece), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
}

TEST(Json, ReadsValues) {
    const Json json =
        Json::parse(R"( {"a": [1, -2.5e-3, true, null, "\"\\\n\u00e9\u20ac\ud83d\ude00"], "b": {}} )");
    const Json::Array& a = json["a"].array();
    ASSERT_EQ(a.size(), 5U);
    EXPECT_EQ(a[0].number(), 1.0);
    EXPECT_EQ(a[1].number(), -2.5e-3);
    EXPECT_TRUE(a[3].is_null());
    EXPECT_EQ(a[4].string(), "\"\\\n\u00e9\u20ac\U0001F600");
    expect_throws<std::runtime_error>([&] { (void)json["c"]; }, "'c' is missing");
    expect_throws<std::runtime_error>([&] { (void)json["a"].number(); }, "a number was expected");
    expect_throws<std::runtime_error>([&] { (void)a[2].string(); }, "a string was expected");
}

TEST(Json, RefusesDamagedTexts) {
    for (const std::string text : {"", "{", "[1, 2", "{\"a\" 1}", "{\"a\": 1} x", "\"\\x\"", "\"\\u12g4\"",
                                   "\"\\ud800\"", "1e", "nul", "[1,]", "\"abc", "\"\\"}) {
        expect_throws<std::runtime_error>([&] { (void)Json::parse(text); }, "JSON");
    }
    expect_throws<std::runtime_error>([] { (void)Json::parse(std::string(100000, '[')); }, "too many");
}

TEST(SealedFile, GivesItsFormat) {
    EXPECT_EQ(verified_format(TemporaryFile(sealed("some bytes")).path()), "aoti");
}

TEST(SealedFile, AnyByteThatChangesIsFound) {
    const std::string whole = sealed("some bytes");
    for (std::size_t i = 0; i < whole.size(); ++i) {
        std::string damaged = whole;
        damaged[i] = static_cast<char>(damaged[i] ^ 1);
        const TemporaryFile file(damaged);
        expect_throws<FileError>([&] { (void)verified_format(file.path()); }, file.path());
    }
}

TEST(SealedFile, SaysWhatIsWrong) {
    const std::string whole = sealed("some bytes");
    const auto expect_refused = [](const std::string& bytes, const std::string& reason) {
        const TemporaryFile file(bytes);
        expect_throws<FileError>([&] { (void)verified_format(file.path()); }, file.path() + ": " + reason);
    };
    expect_refused("", "no seal at its end");
    expect_refused("PK\x03\x04 a foreign archive", "no seal at its end");
    expect_refused(whole.substr(0, 15), "no seal at its end");
    expect_refused(whole.substr(0, whole.size() - 1), "damaged: its seal cannot be read");
    expect_refused(sealed("some bytes", "2"), "a file of version 2, this library reads up to 1");
    expect_refused("another" + whole, "damaged: its checksum differs");
    expect_throws<FileError>([] { (void)verified_format("/nowhere/model.pt2"); }, "/nowhere/model.pt2");
}

TEST(Metadata, IsRead) {
    const ModelFacts facts = parse_metadata(kMetadata);
    EXPECT_EQ(facts.info.name, "c\u00fc");
    EXPECT_EQ(facts.info.voltage, 3e5);
    EXPECT_EQ(facts.info.tokens.max_disks, 76);
    EXPECT_EQ(facts.info.tokens.radius_max, 2.99F);
    ASSERT_EQ(facts.info.phases.size(), 1U);
    EXPECT_EQ(facts.info.phases[0].point_group, "m-3m");
    EXPECT_EQ(facts.info.phases[0].operators.size(), 1U);
    ASSERT_TRUE(facts.refinement.has_value());
    EXPECT_EQ(facts.refinement->vectors, (std::vector<double>{0.25, 0.25, -0.5, 7.5}));
    EXPECT_EQ(facts.refinement->offsets, (std::vector<std::int64_t>{0, 1}));
    EXPECT_DOUBLE_EQ(facts.refinement->spec.in_plane_error, std::acos(-1.0));
    expect_throws<std::runtime_error>([] { (void)parse_metadata("{}"); }, "is missing");
}

TEST(Batches, HoldEveryPatternOnceAtAFittingLength) {
    std::mt19937 random(std::random_device{}());
    for (const int patterns : {0, 1, 7, 256, 5000}) {
        std::vector<std::int64_t> offsets{0};
        std::poisson_distribution<std::int64_t> peaks(13);
        std::int64_t waste = 0;
        for (int i = 0; i < patterns; ++i) {
            offsets.push_back(offsets.back() + peaks(random));
        }
        std::vector<int> seen(static_cast<std::size_t>(patterns));
        for (const Batch& batch : batches(offsets.data(), patterns)) {
            EXPECT_LE(batch.patterns.size(), 1024U);
            std::int64_t longest = 0;
            for (const std::int64_t i : batch.patterns) {
                ++seen[static_cast<std::size_t>(i)];
                const std::int64_t count =
                    offsets[static_cast<std::size_t>(i) + 1] - offsets[static_cast<std::size_t>(i)];
                longest = std::max(longest, count);
                waste += batch.length - count;
            }
            EXPECT_EQ(batch.length, longest);
        }
        EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](int times) { return times == 1; }));
        EXPECT_LE(waste, offsets.back() / 4 + 200) << "padding of " << patterns << " patterns";
    }
}

TEST(Ranking, BlanksWhatIsInvalidAndCalibrates) {
    const ModelFacts facts = parse_metadata(kMetadata);
    const CandidateArrays candidates = {1, std::vector<float>(18, 0.5F), {0, 0}, {0.9F, 0.9F}, {1, 0}};
    const std::vector<Answer> answers = first_answers(candidates, facts);
    EXPECT_TRUE(answers[0].valid);
    EXPECT_NEAR(answers[0].confidence, 1.0 / (1.0 + std::exp(0.5 - 1.5 * std::log(9.0))), 1e-6);
    EXPECT_EQ(answers[0].matrix.m[1][1], 0.5F);
    EXPECT_TRUE(std::isnan(answers[0].score));
    EXPECT_FALSE(answers[1].valid);
    EXPECT_EQ(answers[1].phase, -1);
    EXPECT_EQ(answers[1].confidence, 0.0F);
    EXPECT_TRUE(std::isnan(answers[1].matrix.m[0][0]));
    const CandidateArrays unsure = {1, std::vector<float>(9, 0.5F), {0}, {0.0F}, {1}};
    EXPECT_EQ(first_answers(unsure, facts)[0].confidence, 0.0F);
}
