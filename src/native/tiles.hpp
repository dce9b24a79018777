// What the kernels share: tiles of rows, rows of numbers. Included by files that are built for each instruction set.

#pragma once

#include <algorithm>
#include <memory>
#include <new>
#include <type_traits>

#include "vector.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

constexpr Index WIDE = 4 * V;  // columns of a register tile
constexpr Index PANEL = 160;   // rows of packed weights, WIDE numbers each, that stay in the first-level cache

// Numbers from the beginning of a line of the cache on, so that no vector of packed weights lies across two.
constexpr std::align_val_t LINE{64};
struct Free {
    void operator()(void* numbers) const { operator delete[](numbers, LINE); }
};
using Buffer = std::unique_ptr<Real[], Free>;
Buffer allocate(Index size) {
    return Buffer(static_cast<Real*>(operator new[](static_cast<std::size_t>(std::max<Index>(size, 1)) * sizeof(Real), LINE)));
}

template <Index N>
using Size = std::integral_constant<Index, N>;

template <Index M, typename Run>
INLINE void run_tile(Index rows, Index first, Run& run) {
    if (rows == M) {
        run(Size<M>{}, first);
    } else if constexpr (M > 1) {
        run_tile<M - 1>(rows, first, run);
    }
}

// Split rows into tiles of at most LIMIT, the last two of like size, as a narrow tile does not fill the pipeline.
template <Index LIMIT = TILE, typename Run>
INLINE void for_tiles(Index rows, Run run) {
    Index first = 0;
    for (; rows - first >= 2 * LIMIT || rows - first == LIMIT; first += LIMIT) run(Size<LIMIT>{}, first);
    if (rows - first > LIMIT) {
        const Index half = (rows - first + 1) / 2;
        run_tile<LIMIT>(half, first, run);
        first += half;
    }
    if (first < rows) run_tile<LIMIT>(rows - first, first, run);
}

INLINE void copy_row(Real* to, const Real* from, Index features) {
    Index k = 0;
    for (; k + V <= features; k += V) store(to + k, load(from + k));
    if (k < features) std::memcpy(to + k, from + k, static_cast<std::size_t>(features - k) * sizeof(Real));
}

INLINE Vec max_with_zero(Vec x) { return x < Vec{} ? Vec{} : x; }  // a nan stays one

INLINE void rectify_row(Real* to, const Real* from, Index features) {
    Index k = 0;
    for (; k + V <= features; k += V) {
        store(to + k, max_with_zero(load(from + k)));
    }
    for (; k < features; ++k) to[k] = from[k] < 0 ? 0 : from[k];
}

INLINE void sum_rows(Real* to, const Real* left, const Real* right, Index features) {
    Index k = 0;
    for (; k + V <= features; k += V) store(to + k, load(left + k) + load(right + k));
    for (; k < features; ++k) to[k] = left[k] + right[k];
}

INLINE void add_row(Real* to, const Real* from, Index features) { sum_rows(to, to, from, features); }

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
