#include "crc32.hpp"
#include "small_models.hpp"
#include "throws.hpp"

#include <microinfer/mapper.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <future>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace microinfer;
using namespace microinfer::tests;

namespace {

/// A file that is gone when the test ends.
class TemporaryFile {
  public:
    explicit TemporaryFile(const std::string& bytes)
        : path_(std::filesystem::temp_directory_path() /
                ("microinfer" + std::to_string(std::random_device{}()) + ".safetensors")) {
        std::ofstream(path_, std::ios::binary) << bytes;
    }
    ~TemporaryFile() { std::filesystem::remove(path_); }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;

    [[nodiscard]] std::string path() const { return path_.string(); }

  private:
    std::filesystem::path path_;
};

void expect_refused(const std::string& bytes, const std::string& reason) {
    const TemporaryFile file(bytes);
    expect_throws<FileError>([&] { (void)read_model(file.path()); },
                             file.path() + " cannot be used as a model: " + reason);
}

bool same(const std::vector<Answer>& one, const std::vector<Answer>& two) {
    return std::equal(one.begin(), one.end(), two.begin(), two.end(), [](const Answer& a, const Answer& b) {
        const Candidate first{a.matrix, a.confidence, a.score, static_cast<std::int16_t>(a.phase)};
        const Candidate second{b.matrix, b.confidence, b.score, static_cast<std::int16_t>(b.phase)};
        return a.valid == b.valid && tests::same(&first, &second, 1) &&
               a.alternatives.size() == b.alternatives.size() &&
               tests::same(a.alternatives.data(), b.alternatives.data(),
                           static_cast<std::int64_t>(a.alternatives.size()));
    });
}

}  // namespace

TEST(ReadModel, AnswersAsTheModelOfTheSameArrays) {
    for (const char* const kind : {"posterior", "reference"}) {
        const SmallModel small(kind);
        const TemporaryFile file(small.file());
        const Patterns patterns = random_patterns(30, 6);
        const Answered one = answer(read_model(file.path()), patterns);
        const Answered two = answer(small.model(), patterns);
        EXPECT_TRUE(tests::same(one.of(0), two.of(0), static_cast<std::int64_t>(one.candidates.size())))
            << kind;
    }
}

TEST(ReadModel, ChecksTheChecksum) {
    EXPECT_EQ(crc32("123456789"), 0xcbf43926U);
    EXPECT_EQ(crc32("6789", crc32("12345")), 0xcbf43926U);
    SmallModel small("posterior");
    const std::string header = small.header.dump();
    json metadata = {{"microinfer", header}, {"crc32", checksum(header, small.arrays())}};
    const TemporaryFile whole(small.file(metadata));
    (void)read_model(whole.path());
    small.floats.at("norm.bias").elements[3] += 1e-3F;
    expect_refused(small.file(metadata), "it is damaged: its checksum does not hold");
    (void)read_model(TemporaryFile(small.file()).path());  // as until 0.3.0
    metadata["crc32"] = 5;
    expect_refused(small.file(metadata), "it is damaged: its checksum does not hold");
}

TEST(ReadModel, SaysWhatIsWrongWithAFile) {
    const SmallModel small("posterior");
    const std::string bytes = small.file();
    expect_throws<FileError>([] { (void)read_model("/nowhere/cu.safetensors"); },
                             "/nowhere/cu.safetensors cannot be used as a model: it cannot be read");
    const std::string folder = std::filesystem::temp_directory_path().string();
    expect_throws<FileError>([&] { (void)read_model(folder); }, "it cannot be read");
    expect_refused("", "it is no .safetensors file: it is too short");
    expect_refused("PK\x03\x04 a foreign archive", "it is cut short, or no .safetensors file");
    expect_refused(bytes.substr(0, 1000), "it is cut short");
    expect_refused(bytes.substr(0, bytes.size() - 1), "array wave_gate.weight: its shape does not fit");
    expect_refused(SmallModel::file_of("{}", ""), "it is no checkpoint of microinfer");
    expect_refused(SmallModel::file_of("[1]", ""), "it is no checkpoint of microinfer");
    expect_refused(SmallModel::file_of(std::string(100000, '['), ""), "");
    SmallModel old = small;
    old.header["version"] = 1;
    expect_refused(old.file(),
                   "it is of an older version: write it anew in Python, microinfer.load_model(PATH).save");
}

TEST(ReadModel, NamesArraysThatAreDamaged) {
    const auto expect_array_refused = [](const json& type, const json& shape, const json& offsets,
                                         const std::string& reason) {
        const json table = {{"__metadata__", {{"microinfer", "{}"}}},
                            {"a", {{"dtype", type}, {"shape", shape}, {"data_offsets", offsets}}}};
        expect_refused(SmallModel::file_of(table.dump(), std::string(8, '\0')), "array a: " + reason);
    };
    expect_array_refused("F16", {2}, {0, 4}, "its type is F16, expected F32 or I64");
    expect_array_refused("F32", {2}, {0, 4}, "its shape does not fit its place in the file");
    expect_array_refused("F32", {2}, {4, 12}, "its shape does not fit its place");
    expect_array_refused("F32", {2}, {8, 0}, "its shape does not fit its place");
    expect_array_refused("F32", {1}, {2, 6}, "its elements are not aligned");
    expect_array_refused("F32", {-1}, {0, 4}, "a whole number in range was expected, got -1");
    expect_array_refused("F32", {0.5}, {0, 4}, "a whole number in range was expected, got 0.5");
    expect_array_refused("F32", {std::int64_t{1} << 62, 4}, {0, 0},
                         "its shape needs more bytes than there are");
    expect_array_refused("F32", {2}, {8}, "");
    expect_array_refused(1, {2}, {0, 8}, "");
}

TEST(ReadModel, NoDamageIsMoreThanAnError) {
    const Patterns patterns = random_patterns(12, 7);
    std::mt19937 random(std::random_device{}());
    for (const char* const kind : {"posterior", "reference"}) {
        const std::string whole = SmallModel(kind).file();
        const std::size_t header = whole.find("blocks.0.norm1.bias") + 200;
        int refused = 0;
        for (int trial = 0; trial < 200; ++trial) {
            std::string bytes = whole;
            for (int change = trial % 4; change >= 0; --change) {  // most of them in the header
                bytes[random() % (trial % 8 == 0 ? bytes.size() : header)] = static_cast<char>(random());
            }
            bytes.resize(trial % 16 == 1 ? random() % bytes.size() : bytes.size());
            const TemporaryFile file(bytes);
            try {
                const Model model = read_model(file.path());
                (void)answer(model, patterns, {model.can_refine(), 0, nullptr});
            } catch (const FileError&) {
                ++refused;
            }
        }
        EXPECT_GT(refused, 20);
    }
}

TEST(Mapper, MapsAndSubmitsFromSeveralThreadsAtOnce) {
    const TemporaryFile file(SmallModel("posterior").file());
    Mapper mapper(file.path(), {.refine = true, .queue = 3, .network = {}});
    EXPECT_EQ(mapper.model().name, "small");
    std::vector<PeakList> rows;
    std::vector<std::vector<Answer>> alone;
    for (unsigned i = 0; i < 12; ++i) {
        rows.push_back(list_of(random_patterns(2 * i, i)));
        alone.push_back(mapper.map(rows.back()));
        EXPECT_EQ(alone.back().size(), 2 * i);
    }
    std::atomic<int> agreed = 0;
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 2; ++thread) {
        threads.emplace_back([&] {
            for (std::size_t i = 0; i < rows.size(); ++i) {
                agreed += same(mapper.map(rows[i]), alone[i]) ? 1 : 0;
            }
        });
        threads.emplace_back([&] {
            std::vector<std::future<std::vector<Answer>>> waiting;
            for (const PeakList& row : rows) {
                waiting.push_back(mapper.submit(row));
            }
            for (std::size_t i = 0; i < rows.size(); ++i) {
                agreed += same(waiting[i].get(), alone[i]) ? 1 : 0;
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(agreed, 48);
}

TEST(Mapper, GivesTheCandidatesOfItsModel) {
    const SmallModel small("posterior");
    const TemporaryFile file(small.file());
    const Patterns patterns = random_patterns(30, 8);
    const std::vector<Answer> answers = Mapper(file.path()).map(list_of(patterns));
    const Answered found = answer(small.model(), patterns);
    ASSERT_EQ(answers.size(), 30U);
    for (std::size_t i = 0; i < 30; ++i) {
        EXPECT_EQ(answers[i].valid, found.valid[i]);
        EXPECT_EQ(answers[i].phase, found.of(i)->phase);
        EXPECT_EQ(answers[i].confidence, found.of(i)->probability);
        const std::size_t others = answers[i].alternatives.size();
        EXPECT_TRUE(
            tests::same(answers[i].alternatives.data(), found.of(i) + 1, static_cast<std::int64_t>(others)));
        EXPECT_TRUE(others == 5 || found.of(i)[others + 1].phase == -1);
    }
}

TEST(Mapper, RefusesOffsetsThatDoNotFitThePeaks) {
    const TemporaryFile file(SmallModel("posterior").file());
    const Mapper mapper(file.path());
    const std::vector<float> zeros(3);
    const auto expect_offsets_refused = [&](const std::vector<std::int64_t>& offsets, std::int64_t patterns,
                                            const std::string& reason) {
        const RaggedPeaks peaks{zeros.data(), zeros.data(), zeros.data(), offsets.data(), patterns, 3};
        expect_throws<std::invalid_argument>([&] { (void)mapper.map(peaks); }, reason);
    };
    expect_offsets_refused({0}, -1, "the number of patterns must not be negative, got -1");
    expect_offsets_refused({1, 3}, 1, "offsets must begin with 0, got 1");
    expect_offsets_refused({0, 2, 1, 3}, 3, "offsets must never fall, got 1 after 2 at index 2");
    expect_offsets_refused({0, 2}, 1, "offsets must end with the number of peaks, 3, got 2");
}

TEST(Mapper, RefusesOptionsThatDoNotFit) {
    SmallModel small("posterior");
    small.header["card"].erase("voltage");
    const TemporaryFile file(small.file());
    expect_throws<std::invalid_argument>([&] { Mapper mapper(file.path()); },
                                         "set MapperOptions::refine to false");
    const Mapper mapper(file.path(), {.refine = false, .queue = 1, .network = {}});
    EXPECT_EQ(mapper.map(PeakList()).size(), 0U);
    expect_throws<std::invalid_argument>(
        [&] { Mapper(file.path(), {.refine = false, .queue = 0, .network = {}}); },
        "queue must be at least 1");
}

TEST(PeakList, IsEmptyOnceMovedFrom) {
    PeakList list;
    list.add({{0.5F, 0.0F, 2.0F}});
    PeakList other = std::move(list);
    EXPECT_EQ(other.size(), 1U);
    EXPECT_EQ(list.size(), 0U);  // NOLINT(bugprone-use-after-move): what the header promises
    list.add({});
    list.add({{0.25F, 0.0F, 2.0F}});
    ASSERT_EQ(list.size(), 2U);
    EXPECT_EQ(list.view().offsets[1], 0);
    EXPECT_EQ(list.view().offsets[2], 1);
    EXPECT_EQ(list.view().peaks, 1);
    other = std::move(list);
    EXPECT_EQ(list.size(), 0U);  // NOLINT(bugprone-use-after-move)
    EXPECT_EQ(other.size(), 2U);
}
