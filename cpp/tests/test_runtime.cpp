#include "batches.hpp"
#include "disks.hpp"
#include "json.hpp"
#include "model_file.hpp"
#include "ranking.hpp"
#include "safetensors.hpp"
#include "sealed_file.hpp"
#include "sha256.hpp"
#include "small_posterior.hpp"
#include "throws.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <clocale>
#include <cmath>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <locale>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <variant>
#include <vector>

using namespace microinfer;
using namespace microinfer::runtime;
using microinfer::tests::expect_throws;
using microinfer::tests::SmallPosterior;

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

std::string sealed(const std::string& body, const std::string& version = "2") {
    const std::string text = body + "microinfer export " + version + " aoti sha256 ";
    return text + sha256(text, text.size());
}

const std::string kMetadata = R"({
  "format": "aoti", "device": "cpu", "dtype": "float32", "microinfer": "0.1.0", "name": "c\u00fc",
  "core": {"heads": 8, "orders": [1, 2], "top_cells": 24, "cells_edge": 0.2, "negligible": 1e-3,
           "angles": 180, "peaks": 4, "window": 5, "modes": 6, "mode_radius": 0.08, "leading": 0.8,
           "confidence_radius": 0.05, "confidence_edge": 0.01},
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
    EXPECT_EQ(a[0].integer(), 1);
    expect_throws<std::runtime_error>([&] { (void)a[1].integer(); }, "a whole number was expected");
    expect_throws<std::runtime_error>([&] { (void)a[0].object(); }, "an object was expected");
}

TEST(Json, ReadsNumbersWhateverTheProgramsLocale) {
    struct Comma : std::numpunct<char> {
        [[nodiscard]] char do_decimal_point() const override { return ','; }
    };
    const std::locale before = std::locale::global(std::locale(std::locale::classic(), new Comma));
    const std::string c_before = std::setlocale(LC_NUMERIC, nullptr);
    std::setlocale(LC_NUMERIC, "de_DE.UTF-8");  // C's own, where the system has it
    EXPECT_EQ(Json::parse("-2.5e-3").number(), -2.5e-3);
    std::setlocale(LC_NUMERIC, c_before.c_str());
    std::locale::global(before);
}

TEST(Json, RefusesDamagedTexts) {
    for (const std::string text : {"", "{", "[1, 2", "{\"a\" 1}", "{\"a\": 1} x", "\"\\x\"", "\"\\u12g4\"",
                                   "\"\\ud800\"", "1e", "1.2.3", "1-2", "nul", "[1,]", "\"abc", "\"\\"}) {
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
    expect_refused(sealed("some bytes", "3"), "a file of version 3, this library reads version 2: update");
    expect_refused(sealed("some bytes", "1"), "a file of version 1, this library reads version 2: export");
    expect_refused("another" + whole, "damaged: its checksum differs");
    expect_throws<FileError>([] { (void)verified_format("/nowhere/model.pt2"); }, "/nowhere/model.pt2");
    const std::string folder = std::filesystem::temp_directory_path().string();
    expect_throws<FileError>([&] { (void)verified_format(folder); }, folder + ": cannot read the file");
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
    ASSERT_TRUE(facts.core.has_value());
    const auto& core = std::get<PosteriorSettings>(*facts.core);
    EXPECT_EQ(core.heads, 8);
    EXPECT_EQ(core.orders, (std::vector<std::int64_t>{1, 2}));
    EXPECT_EQ(core.cells_edge, 0.2);
    EXPECT_EQ(core.leading, 0.8);
    EXPECT_EQ(core.confidence_edge, 0.01);
    expect_throws<std::runtime_error>([] { (void)parse_metadata("{}"); }, "is missing");
}

TEST(Metadata, ThatCannotBeIsRefused) {
    const auto expect_refused = [](const std::string& was, const std::string& is, const std::string& reason) {
        std::string text = kMetadata;
        text.replace(text.find(was), was.size(), is);
        expect_throws<std::exception>([&] { (void)parse_metadata(text); }, reason);
    };
    expect_refused("\"max_disks\": 76", "\"max_disks\": 4294967297",
                   "max_disks is out of range, got 4294967297");
    expect_refused("\"max_disks\": 76", "\"max_disks\": -1", "max_disks must be at least 1, got -1");
    expect_refused("\"radius_bins\": 256", "\"radius_bins\": 0", "radius_bins must be at least 1, got 0");
    expect_refused("\"steps\": 6", "\"steps\": 0", "steps must be at least 1, got 0");
    expect_refused("\"posterior\"", "\"forest\"", "kind must be posterior or reference, got forest");
    expect_refused("[1.5, -0.5]", "[1.5]", "a list of 2 was expected, got one of 1");
    expect_refused("[1, 1, -2, 7.5]", "[1, 1, -2]", "a list of 4 was expected, got one of 3");
    expect_refused("0.0197", "-1", "wavelength must be positive and finite, got -1");
}

TEST(Metadata, SaysWhatTheCoreNeedsOfAReferenceModel) {
    std::string text = kMetadata;
    text.replace(text.find("\"posterior\""), 11, "\"reference\"");
    const ModelFacts facts = parse_metadata(text);
    EXPECT_EQ(std::get<ReferenceSettings>(facts.core.value()).heads, 8);
}

TEST(Metadata, NeedsNothingForTheCore) {
    std::string text = kMetadata;
    EXPECT_FALSE(parse_metadata(text.replace(text.find("\"core\""), 6, "\"else\"")).core.has_value());
}

TEST(Batches, HoldEveryPatternOnceAtAFittingLength) {
    std::mt19937 random(std::random_device{}());
    std::poisson_distribution<std::int64_t> peaks(13);
    for (const BatchLimits& limits : {kOnCpu, kOnGpu}) {
        for (const int patterns : {0, 1, 7, 256, 5000}) {
            std::vector<std::int64_t> count;
            for (int i = 0; i < patterns; ++i) {
                count.push_back(peaks(random));
            }
            std::vector<int> seen(static_cast<std::size_t>(patterns));
            std::int64_t waste = 0;
            for (const Batch& batch : batches(count, limits)) {
                EXPECT_LE(batch.patterns.size(), static_cast<std::size_t>(limits.largest));
                std::int64_t longest = 0;
                for (const std::int64_t i : batch.patterns) {
                    ++seen[static_cast<std::size_t>(i)];
                    longest = std::max(longest, count[static_cast<std::size_t>(i)]);
                    waste += batch.length - count[static_cast<std::size_t>(i)];
                }
                EXPECT_EQ(batch.length, longest);
            }
            EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](int times) { return times == 1; }));
            const std::int64_t padding = std::accumulate(count.begin(), count.end(), std::int64_t{0}) / 4;
            EXPECT_LE(waste, padding + limits.call) << "padding of " << patterns << " patterns";
        }
    }
}

TEST(Batches, ARowIsOneOnAGpuAndSeveralOnACpu) {
    std::vector<std::int64_t> count(256);
    for (std::size_t i = 0; i < count.size(); ++i) {
        count[i] = static_cast<std::int64_t>(i % 36);
    }
    EXPECT_EQ(batches(count, kOnGpu).size(), 1U);
    EXPECT_GT(batches(count, kOnCpu).size(), 1U);
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
    // As Python's: even what is certain, or more by rounding, is corrected.
    ModelFacts doubting = facts;
    doubting.slope = 0.1;
    const CandidateArrays certain = {
        1, std::vector<float>(18, 0.5F), {0, 0}, {1.0F, std::nextafter(1.0F, 2.0F)}, {1, 1}};
    for (const Answer& answer : first_answers(certain, doubting)) {
        EXPECT_NEAR(answer.confidence, 1.0 / (1.0 + std::exp(0.5 - 0.1 * std::log(1e6 - 1.0))), 1e-6);
    }
    const CandidateArrays unsure = {1, std::vector<float>(9, 0.5F), {0}, {0.0F}, {1}};
    EXPECT_EQ(first_answers(unsure, facts)[0].confidence, 0.0F);
}

TEST(PeakList, IsEmptyOnceMovedFrom) {
    PeakList list;
    list.add({{0.5F, 0.0F, 2.0F}});
    PeakList other = std::move(list);
    EXPECT_EQ(other.size(), 1U);
    list = PeakList();
    EXPECT_EQ(list.size(), 0U);
    list.add({{0.5F, 0.0F, 2.0F}});
    other = std::move(list);
    EXPECT_EQ(list.size(), 0U);  // NOLINT(bugprone-use-after-move): what the header promises
    list.add({});
    list.add({{0.25F, 0.0F, 2.0F}});
    ASSERT_EQ(list.size(), 2U);
    EXPECT_EQ(list.view().offsets[1], 0);
    EXPECT_EQ(list.view().offsets[2], 1);
    EXPECT_EQ(list.view().peaks, 1);
}

TEST(Disks, AreThoseOfValidPatterns) {
    PeakList list;
    list.add({{0.5F, 0.0F, 2.0F}, {0.0F, 1.0F, 1.0F}, {0.0F, 0.001F, 50.0F}});  // the last: the direct beam
    list.add({});
    list.add({{0.5F, 0.0F, std::nanf("")}, {0.0F, 1.0F, 1.0F}});
    list.add({{0.5F, 0.0F, 2.0F}});
    list.add({{0.0F, -1.5F, 1.0F}, {0.0F, 1.25F, 4.0F}});
    const Disks disks = disks_of(list.view(), parse_metadata(kMetadata).info.tokens);
    EXPECT_EQ(disks.pattern, (std::vector<std::int64_t>{0, 4}));
    const PaddedDisks view = disks.view();
    ASSERT_EQ(view.patterns, 2);
    EXPECT_EQ(view.count[0], 2);
    EXPECT_EQ(view.count[1], 2);
    EXPECT_EQ(view.radius[0], 0.5F);
    EXPECT_EQ(view.radius[view.length], 1.25F);
    EXPECT_EQ(view.intensity[view.length + 1], 0.25F);
    const BinnedDisks bins = disks.bins();
    EXPECT_EQ(bins.patterns, 2);
    EXPECT_EQ(bins.length, view.length);
    EXPECT_EQ(bins.radius[bins.length], static_cast<std::int32_t>(1.25F / 2.99F * 256.0F));
    EXPECT_EQ(bins.angle[bins.length], 270) << "of 360, from -180 degrees: disk along qy";
    EXPECT_EQ(bins.intensity[bins.length + 1], static_cast<std::int32_t>(0.249F / 0.999F * 64.0F));
    EXPECT_EQ(disks_of(PeakList().view(), parse_metadata(kMetadata).info.tokens).view().patterns, 0);
}

TEST(Disks, RefusesOffsetsThatDoNotFitThePeaks) {
    const TokenSpec spec = parse_metadata(kMetadata).info.tokens;
    const std::vector<float> zeros(3);
    const auto expect_refused = [&](const std::vector<std::int64_t>& offsets, std::int64_t patterns,
                                    const std::string& reason) {
        const RaggedPeaks peaks{zeros.data(), zeros.data(), zeros.data(), offsets.data(), patterns, 3};
        expect_throws<std::invalid_argument>([&] { (void)disks_of(peaks, spec); }, reason);
    };
    expect_refused({0}, -1, "the number of patterns must not be negative, got -1");
    expect_refused({1, 3}, 1, "offsets must begin with 0 and never fall, got 1 at 0");
    expect_refused({0, 2, 1, 3}, 3, "offsets must begin with 0 and never fall, got 1 at 2");
    expect_refused({0, 2}, 1, "offsets must end with the number of peaks, 3, got 2");
}

TEST(Safetensors, GivesTheArrays) {
    const SmallPosterior model;
    const std::string bytes = model.safetensors();
    const NamedArrays found = read_safetensors(bytes);
    const NamedArrays expected = model.arrays();
    ASSERT_EQ(found.size(), expected.size());
    for (const auto& [name, array] : expected) {
        EXPECT_EQ(found.at(name).shape, array.shape) << name;
        EXPECT_EQ(found.at(name).elements.index(), array.elements.index()) << name;
    }
    const auto* const bias = std::get<const float*>(expected.at("norm.bias").elements);
    EXPECT_TRUE(std::equal(bias, bias + 20, std::get<const float*>(found.at("norm.bias").elements)));
}

TEST(Safetensors, RefusesWhatDoesNotFit) {
    const auto expect_refused = [](std::string header, std::size_t data, const std::string& reason) {
        header.resize((header.size() + 7) / 8 * 8, ' ');
        std::string bytes(8, '\0');
        bytes[0] = static_cast<char>(header.size());
        bytes += header + std::string(data, '\0');
        expect_throws<std::runtime_error>([&] { (void)read_safetensors(bytes); }, reason);
    };
    const auto array = [](const std::string& type, const std::string& shape, const std::string& offsets) {
        return R"({"a":{"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
    };
    expect_refused(array("F16", "[2]", "[0,4]"), 8, "array a: its type is F16, expected F32 or I64");
    expect_refused(array("F32", "[2]", "[0,4]"), 8, "array a: it has 4 bytes, its shape needs 8");
    expect_refused(array("F32", "[2]", "[8]"), 8, "array a: it needs two data_offsets, got 1");
    expect_refused(array("F32", "[2]", "[0,8]"), 4, "array a: its elements lie outside the 4 bytes");
    expect_refused(array("F32", "[2]", "[8,0]"), 8, "array a: its elements lie outside");
    expect_refused(array("F32", "[1]", "[2,6]"), 8, "array a: its elements are not aligned");
    expect_refused(array("F32", "[-1]", "[0,4]"), 8, "array a: no array has an axis of -1");
    expect_refused(array("F32", "[4611686018427387,4611686018427387]", "[0,4]"), 8, "array a: no array has");
    expect_refused(array("F32", "[0.5]", "[0,4]"), 8, "array a: a whole number was expected");
    expect_refused(R"({"a":{}})", 0, "array a: the entry 'dtype' is missing");
    expect_refused("[1]", 0, "an object was expected");
    expect_refused("{", 0, "JSON");
    expect_throws<std::runtime_error>([] { (void)read_safetensors("1234567"); }, "it is cut short");
    expect_throws<std::runtime_error>([] { (void)read_safetensors("12345678{}"); }, "it is cut short");
}
