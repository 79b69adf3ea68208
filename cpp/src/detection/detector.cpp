#include "../require.hpp"
#include "maxima.hpp"
#include "transform.hpp"

#include <microinfer/detection.hpp>
#include <microinfer/thread_pool.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <mutex>
#include <new>
#include <optional>
#include <utility>

namespace microinfer {

using detection::kPanel;
using detection::Maxima;
using detection::Panel;
using detection::Plan;

namespace {

constexpr std::int64_t kBlock = 4;  // pairs of frames that a thread takes at a time

std::int64_t rounded_up(std::int64_t size) {
    return (size + kPanel - 1) / kPanel * kPanel;
}

/// Zeroed floats at addresses that suit every vector.
class Floats {
  public:
    explicit Floats(std::int64_t size)
        : data_(new (std::align_val_t{64}) float[static_cast<std::size_t>(size)]()) {}
    [[nodiscard]] float* data() const { return data_.get(); }

  private:
    struct Deleter {
        void operator()(float* data) const { ::operator delete[](data, std::align_val_t{64}); }
    };
    std::unique_ptr<float[], Deleter> data_;
};

/// Where the rows (or columns) of a padded frame come from: its end repeats the frame's edges, half each.
std::vector<std::int64_t> sources(std::int64_t size, std::int64_t padded) {
    std::vector<std::int64_t> result(static_cast<std::size_t>(padded));
    for (std::int64_t i = 0; i < padded; ++i) {
        result[static_cast<std::size_t>(i)] =
            i < size ? i : (i - size < (padded - size + 1) / 2 ? size - 1 : 0);
    }
    return result;
}

}  // namespace

class DiskDetector::Implementation {
  public:
    Implementation(const FrameLayout& layout, const KernelView& kernel, const DiskSpec& spec)
        : rows(layout.rows),
          columns(layout.columns),
          spec_(spec),
          loops_(detection::transforms()),
          down_(kernel.padded_rows),
          across_(kernel.padded_columns),
          row_source_(sources(rows, down_.length)),
          column_source_(sources(columns, across_.length)),
          stride_(rounded_up(down_.length)),
          floor_(layout.floor, layout.floor + rows * columns),
          before_re_(across_.length * stride_),
          before_im_(across_.length * stride_),
          after_(across_.length * stride_) {
        const bool all_good =
            std::all_of(layout.good, layout.good + rows * columns, [](bool good) { return good; });
        if (!all_good) {
            good_ = std::make_unique<bool[]>(static_cast<std::size_t>(rows * columns));
            std::copy_n(layout.good, rows * columns, good_.get());
            const std::int64_t bad = std::count(layout.good, layout.good + rows * columns, false);
            fill_count_ = layout.fill_count;
            require(fill_count_ >= 1 && layout.fill != nullptr,
                    "fill must name pixels for those that do not count");
            fill_.assign(layout.fill, layout.fill + bad * fill_count_);
            for (const std::int64_t pixel : fill_) {
                require(pixel >= 0 && pixel < rows * columns && layout.good[pixel],
                        "fill must name pixels that count", pixel);
            }
        }
        const float scale = 1.0F / static_cast<float>(down_.length * across_.length);
        for (std::int64_t i = 0; i < down_.length; ++i) {
            for (std::int64_t j = 0; j < across_.length; ++j) {
                const std::complex<float> factor = kernel.before[i * across_.length + j];
                const float rest =
                    scale * (kernel.after == nullptr ? 1.0F : kernel.after[i * across_.length + j]);
                const bool linear = spec.correlation_power == 1.0F;
                before_re_.data()[j * stride_ + i] = factor.real() * (linear ? rest : 1.0F);
                before_im_.data()[j * stride_ + i] = factor.imag() * (linear ? rest : 1.0F);
                after_.data()[j * stride_ + i] = rest;
            }
        }
    }

    const std::int64_t rows;
    const std::int64_t columns;

    template <typename Count>
    FoundDisks find(const Count* frames, std::int64_t scan_rows, std::int64_t positions,
                    const float* correlations) const {
        std::vector<std::vector<Disk>> found(static_cast<std::size_t>(scan_rows * positions));
        each_pair(scan_rows, positions, [&](Workspace& work, std::int64_t first, std::int64_t frames_here) {
            load(work, frames, first, frames_here);
            const float* correlation[2] = {work.correlation[0].data(), work.correlation[1].data()};
            if (correlations == nullptr) {
                correlate_pair(work, frames_here);
            } else {
                for (std::int64_t i = 0; i < frames_here; ++i) {
                    correlation[i] = correlations + (first + i) * rows * columns;
                }
            }
            for (std::int64_t i = 0; i < frames_here; ++i) {
                work.maxima.add(work.frame[i].data(), correlation[i],
                                found[static_cast<std::size_t>(first + i)]);
            }
        });
        FoundDisks result;
        result.offsets.push_back(0);
        for (const std::vector<Disk>& disks : found) {
            result.disks.insert(result.disks.end(), disks.begin(), disks.end());
            result.offsets.push_back(static_cast<std::int64_t>(result.disks.size()));
        }
        return result;
    }

    template <typename Count>
    void correlate(const Count* frames, std::int64_t scan_rows, std::int64_t positions,
                   float* correlations) const {
        each_pair(scan_rows, positions, [&](Workspace& work, std::int64_t first, std::int64_t frames_here) {
            load(work, frames, first, frames_here);
            correlate_pair(work, frames_here);
            for (std::int64_t i = 0; i < frames_here; ++i) {
                std::copy_n(work.correlation[i].data(), rows * columns,
                            correlations + (first + i) * rows * columns);
            }
        });
    }

  private:
    /// What a thread needs for a pair of frames.
    struct Workspace {
        explicit Workspace(const Implementation& owner)
            : frame{Floats(owner.rows * owner.columns + kPanel), Floats(owner.rows * owner.columns + kPanel)},
              correlation{Floats(owner.rows * owner.columns), Floats(owner.rows * owner.columns)},
              spectrum_re(owner.across_.length * owner.stride_),
              spectrum_im(owner.across_.length * owner.stride_),
              panels(4 * kPanel * std::max(rounded_up(owner.down_.length), rounded_up(owner.across_.length))),
              maxima(owner.rows, owner.columns, owner.floor_.data(), owner.spec_) {
            const std::int64_t size =
                kPanel * std::max(rounded_up(owner.down_.length), rounded_up(owner.across_.length));
            panel = {panels.data(), panels.data() + size, panels.data() + 2 * size, panels.data() + 3 * size};
        }

        Floats frame[2];
        Floats correlation[2];
        Floats spectrum_re;  ///< transposed: (padded columns, stride)
        Floats spectrum_im;
        Floats panels;
        Panel panel{};
        Maxima maxima;
    };

    std::unique_ptr<Workspace> take() const {
        {
            const std::lock_guard lock(mutex_);
            if (!idle_.empty()) {
                std::unique_ptr<Workspace> work = std::move(idle_.back());
                idle_.pop_back();
                return work;
            }
        }
        return std::make_unique<Workspace>(*this);
    }

    /// Calls `body` with the first and the number of frames that travel together: two of one scan row, or its
    /// last one.
    template <typename Body>
    void each_pair(std::int64_t scan_rows, std::int64_t positions, const Body& body) const {
        // with another power than 1 the two would mix
        const std::int64_t together = spec_.correlation_power == 1.0F ? 2 : 1;
        const std::int64_t pairs = (positions + together - 1) / together;
        parallel_for(scan_rows * pairs, kBlock, [&](std::int64_t begin, std::int64_t end) {
            std::unique_ptr<Workspace> work = take();
            for (std::int64_t pair = begin; pair < end; ++pair) {
                const std::int64_t first = pair % pairs * together;
                body(*work, pair / pairs * positions + first, std::min(together, positions - first));
            }
            const std::lock_guard lock(mutex_);
            idle_.push_back(std::move(work));
        });
    }

    template <typename Count>
    void load(Workspace& work, const Count* frames, std::int64_t first, std::int64_t count) const {
        const std::int64_t pixels = rows * columns;
        for (std::int64_t i = 0; i < count; ++i) {
            const Count* const from = frames + (first + i) * pixels;
            float* const to = work.frame[i].data();
            for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
                to[pixel] = static_cast<float>(from[pixel]);
            }
            fill(to);
            if constexpr (std::is_floating_point_v<Count>) {
                float sum = 0.0F;
                for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
                    sum += to[pixel] * 0.0F;
                }
                if (sum != 0.0F) {
                    throw NotFinite{first + i};
                }
            }
        }
        if (count < 2) {
            std::fill_n(work.frame[1].data(), pixels, 0.0F);
        }
    }

    void fill(float* frame) const {
        if (good_ == nullptr) {
            return;
        }
        const std::int64_t* from = fill_.data();
        for (std::int64_t pixel = 0; pixel < rows * columns; ++pixel) {
            if (!good_[static_cast<std::size_t>(pixel)]) {
                float sum = 0.0F;
                for (std::int64_t i = 0; i < fill_count_; ++i) {
                    sum += frame[*from++];
                }
                frame[pixel] = sum / static_cast<float>(fill_count_);
            }
        }
    }

    void correlate_pair(Workspace& work, std::int64_t count) const {
        for (std::int64_t y = 0; y < across_.length; y += kPanel) {
            load_panel(work.frame[0].data(), y, work.panel.re);
            load_panel(work.frame[1].data(), y, work.panel.im);
            loops_.columns(down_, work.panel);
            store_transposed(work.panel.re, work.spectrum_re.data(), y);
            store_transposed(work.panel.im, work.spectrum_im.data(), y);
        }
        for (std::int64_t x = 0; x < stride_; x += kPanel) {
            filter_panel(work, x);
        }
        for (std::int64_t y = 0; y < columns; y += kPanel) {
            Panel swapped = {work.panel.im, work.panel.re, work.panel.other_im, work.panel.other_re};
            load_transposed(work.spectrum_re.data(), y, swapped.im);
            load_transposed(work.spectrum_im.data(), y, swapped.re);
            loops_.columns(down_, swapped);
            store_panel(swapped.im, y, work.correlation[0].data());
            if (count > 1) {
                store_panel(swapped.re, y, work.correlation[1].data());
            }
        }
    }

    /// Columns y ... of a frame, padded.
    void load_panel(const float* frame, std::int64_t y, float* panel) const {
        const std::int64_t width = std::min(kPanel, across_.length - y);
        if (y + kPanel <= columns) {
            loops_.copy(frame + y, columns, panel, kPanel, rows);
        } else {
            for (std::int64_t i = 0; i < rows; ++i) {
                for (std::int64_t j = 0; j < width; ++j) {
                    panel[i * kPanel + j] =
                        frame[i * columns + column_source_[static_cast<std::size_t>(y + j)]];
                }
            }
        }
        for (std::int64_t i = rows; i < down_.length; ++i) {
            loops_.copy(panel + row_source_[static_cast<std::size_t>(i)] * kPanel, kPanel, panel + i * kPanel,
                        kPanel, 1);
        }
    }

    void store_panel(const float* panel, std::int64_t y, float* correlation) const {
        if (y + kPanel <= columns) {
            loops_.copy(panel, kPanel, correlation + y, columns, rows);
            return;
        }
        for (std::int64_t i = 0; i < rows; ++i) {
            std::copy_n(panel + i * kPanel, columns - y, correlation + i * columns + y);
        }
    }

    void store_transposed(const float* panel, float* spectrum, std::int64_t y) const {
        const std::int64_t width = std::min(kPanel, across_.length - y);
        for (std::int64_t i = 0; i < stride_; i += kPanel) {
            if (width == kPanel) {
                loops_.transpose(panel + i * kPanel, kPanel, spectrum + y * stride_ + i, stride_);
                continue;
            }
            for (std::int64_t j = 0; j < width; ++j) {
                for (std::int64_t k = 0; k < kPanel; ++k) {
                    spectrum[(y + j) * stride_ + i + k] = panel[(i + k) * kPanel + j];
                }
            }
        }
    }

    void load_transposed(const float* spectrum, std::int64_t y, float* panel) const {
        const std::int64_t width = std::min(kPanel, across_.length - y);
        for (std::int64_t i = 0; i < stride_; i += kPanel) {
            if (width == kPanel) {
                loops_.transpose(spectrum + y * stride_ + i, stride_, panel + i * kPanel, kPanel);
                continue;
            }
            for (std::int64_t k = 0; k < kPanel; ++k) {
                for (std::int64_t j = 0; j < width; ++j) {
                    panel[(i + k) * kPanel + j] = spectrum[(y + j) * stride_ + i + k];
                }
            }
        }
    }

    /// Transforms rows x ... of the frame, multiplies by the kernel and transforms back.
    void filter_panel(Workspace& work, std::int64_t x) const {
        float* const re = work.spectrum_re.data() + x;
        float* const im = work.spectrum_im.data() + x;
        loops_.copy(re, stride_, work.panel.re, kPanel, across_.length);
        loops_.copy(im, stride_, work.panel.im, kPanel, across_.length);
        loops_.columns(across_, work.panel);
        loops_.multiply(work.panel, before_re_.data() + x, before_im_.data() + x, stride_, across_.length);
        if (spec_.correlation_power != 1.0F) {
            for (std::int64_t i = 0; i < across_.length; ++i) {
                raise(work.panel.re + i * kPanel, work.panel.im + i * kPanel,
                      after_.data() + i * stride_ + x);
            }
        }
        Panel swapped = {work.panel.im, work.panel.re, work.panel.other_im, work.panel.other_re};
        loops_.columns(across_, swapped);
        loops_.copy(swapped.im, kPanel, re, stride_, across_.length);
        loops_.copy(swapped.re, kPanel, im, stride_, across_.length);
    }

    /// Absolute values to the correlation's power, and the filter after it.
    void raise(float* re, float* im, const float* after) const {
        for (std::int64_t i = 0; i < kPanel; ++i) {
            const float square = re[i] * re[i] + im[i] * im[i];
            const float factor =
                square > 0.0F ? after[i] * std::pow(square, 0.5F * (spec_.correlation_power - 1.0F)) : 0.0F;
            re[i] *= factor;
            im[i] *= factor;
        }
    }

    const DiskSpec spec_;
    const detection::Transforms& loops_;
    const Plan down_;
    const Plan across_;
    const std::vector<std::int64_t> row_source_;
    const std::vector<std::int64_t> column_source_;
    const std::int64_t stride_;
    const std::vector<float> floor_;
    std::unique_ptr<bool[]> good_;  ///< null where all pixels count
    std::int64_t fill_count_ = 0;
    std::vector<std::int64_t> fill_;
    Floats before_re_;  ///< transposed, as the spectrum; for power 1 with `after` in it
    Floats before_im_;
    Floats after_;
    mutable std::mutex mutex_;
    mutable std::vector<std::unique_ptr<Workspace>> idle_;
};

DiskDetector::DiskDetector(const FrameLayout& layout, const KernelView& kernel, const DiskSpec& spec) {
    require(layout.rows >= 1, "frames must have at least 1 row", layout.rows);
    require(layout.columns >= 1, "frames must have at least 1 column", layout.columns);
    require(kernel.padded_rows >= layout.rows, "the padded rows must be at least those of a frame",
            kernel.padded_rows);
    require(kernel.padded_columns >= layout.columns, "the padded columns must be at least those of a frame",
            kernel.padded_columns);
    require(std::isfinite(spec.radius) && spec.radius > 0.0F, "radius must be positive and finite",
            spec.radius);
    require(spec.background_inner >= spec.radius, "background_inner must be at least the radius",
            spec.background_inner);
    require(std::isfinite(spec.background_outer) && spec.background_outer > spec.background_inner,
            "background_outer must be above background_inner and finite", spec.background_outer);
    require(spec.min_snr >= 0.0F, "min_snr must be at least 0", spec.min_snr);
    require(spec.gain >= 0.0F, "gain must be at least 0", spec.gain);
    require(spec.kernel_square >= 0.0F, "kernel_square must be at least 0", spec.kernel_square);
    require(std::isfinite(spec.noise_floor), "noise_floor must be finite", spec.noise_floor);
    require(spec.min_relative >= 0.0F && spec.min_relative <= 1.0F, "min_relative must lie between 0 and 1",
            spec.min_relative);
    require(spec.relative_to >= 0, "relative_to must be at least 0", spec.relative_to);
    require(spec.min_spacing >= 0.0F, "min_spacing must be at least 0", spec.min_spacing);
    require(spec.max_disks >= 1, "max_disks must be at least 1", spec.max_disks);
    require(spec.correlation_power >= 0.0F && spec.correlation_power <= 1.0F,
            "correlation_power must lie between 0 and 1", spec.correlation_power);
    implementation_ = std::make_unique<Implementation>(layout, kernel, spec);
}

DiskDetector::~DiskDetector() = default;

std::int64_t DiskDetector::rows() const {
    return implementation_->rows;
}

std::int64_t DiskDetector::columns() const {
    return implementation_->columns;
}

template <typename Count>
FoundDisks DiskDetector::find(const Count* frames, std::int64_t scan_rows, std::int64_t positions,
                              const float* correlations) const {
    return implementation_->find(frames, scan_rows, positions, correlations);
}

template <typename Count>
void DiskDetector::correlate(const Count* frames, std::int64_t scan_rows, std::int64_t positions,
                             float* correlations) const {
    implementation_->correlate(frames, scan_rows, positions, correlations);
}

#define MICROINFER_INSTANTIATE(Count)                                                                     \
    template FoundDisks DiskDetector::find(const Count*, std::int64_t, std::int64_t, const float*) const; \
    template void DiskDetector::correlate(const Count*, std::int64_t, std::int64_t, float*) const;
MICROINFER_INSTANTIATE(std::uint8_t)
MICROINFER_INSTANTIATE(std::uint16_t)
MICROINFER_INSTANTIATE(std::uint32_t)
MICROINFER_INSTANTIATE(std::int8_t)
MICROINFER_INSTANTIATE(std::int16_t)
MICROINFER_INSTANTIATE(std::int32_t)
MICROINFER_INSTANTIATE(float)
MICROINFER_INSTANTIATE(double)
#undef MICROINFER_INSTANTIATE

std::int64_t transform_length(std::int64_t length) {
    require(length >= 1, "the length of a transform must be at least 1", length);
    return detection::transform_length(length);
}

}  // namespace microinfer
