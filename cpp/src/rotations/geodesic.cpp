#include <microinfer/geodesic.hpp>
#include <microinfer/geodesic_math.hpp>
#include <microinfer/thread_pool.hpp>

#include <vector>

namespace microinfer {
namespace {

/// Pairs per block: some tens of microseconds of work.
constexpr std::int64_t kBlock = 256;

}  // namespace

template <typename T>
void symmetry_min_geodesic(const OrientationPairs<T>& pairs, T* angle, std::int64_t* index) {
    // The operators element by element, (9, operators), so that the loop over them vectorises.
    const std::int64_t count = pairs.operator_count;
    std::vector<T> elements(static_cast<std::size_t>(9 * count));
    for (std::int64_t g = 0; g < count; ++g) {
        for (std::int64_t k = 0; k < 9; ++k) {
            elements[static_cast<std::size_t>(k * count + g)] = pairs.operators[9 * g + k];
        }
    }
    parallel_for(pairs.batch_size, kBlock, [&](std::int64_t begin, std::int64_t end) {
        std::vector<T> ranks(static_cast<std::size_t>(count));
        T* const rank = ranks.data();
        const T* const operators = elements.data();
        for (std::int64_t i = begin; i < end; ++i) {
            const Matrix3<T> m =
                multiply(load(pairs.label + 9 * i), transposed(load(pairs.predicted + 9 * i)));
            for (std::int64_t g = 0; g < count; ++g) {
                rank[g] = angle_rank(sine_cosine(load(operators + g, count), m));
            }
            std::int64_t nearest = 0;
            for (std::int64_t g = 1; g < count; ++g) {
                nearest = rank[g] < rank[nearest] ? g : nearest;
            }
            const SineCosine<T> s = sine_cosine(load(pairs.operators + 9 * nearest), m);
            angle[i] = std::atan2(s.sine, s.cosine);
            index[i] = nearest;
        }
    });
}

template <typename T>
void symmetry_min_geodesic_backward(const OrientationPairs<T>& pairs, const std::int64_t* index,
                                    const T* upstream, T* predicted_gradient, T* label_gradient) {
    parallel_for(pairs.batch_size, kBlock, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            const GeodesicGradient<T> gradient =
                geodesic_gradient(load(pairs.predicted + 9 * i), load(pairs.label + 9 * i),
                                  load(pairs.operators + 9 * index[i]), upstream[i]);
            store(gradient.predicted, predicted_gradient + 9 * i);
            store(gradient.label, label_gradient + 9 * i);
        }
    });
}

template void symmetry_min_geodesic(const OrientationPairs<float>&, float*, std::int64_t*);
template void symmetry_min_geodesic(const OrientationPairs<double>&, double*, std::int64_t*);
template void symmetry_min_geodesic_backward(const OrientationPairs<float>&, const std::int64_t*,
                                             const float*, float*, float*);
template void symmetry_min_geodesic_backward(const OrientationPairs<double>&, const std::int64_t*,
                                             const double*, double*, double*);

}  // namespace microinfer
