// A matrix product over the positions of maps, forward and backward: 1 × 1 convolutions, alone or behind a recurrence.

#pragma once

#include "tiles.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

constexpr Index CHUNK = 96;  // positions whose maps stay in the first-level cache

// Rows of a register tile of N vectors: enough sums at a time that none waits for the one before.
template <Index N>
constexpr Index TALL = N <= 2 ? std::max<Index>(8, TILE) : TILE;

// Columns of a product in groups of up to WIDE: [group][depth][column of the group], padded to whole vectors.
struct Packed {
    Index depth, padded;
    Buffer data;

    template <typename Value>
    Packed(Index depth, Index columns, Value value) : depth(depth), padded(round_up(columns, V)), data(allocate(depth * padded)) {
        float* to = data.get();
        for (Index first = 0; first < padded; first += WIDE)
            for (Index k = 0; k < depth; ++k)
                for (Index n = first; n < std::min(first + WIDE, padded); ++n) *to++ = n < columns ? value(k, n) : 0;
    }
    const float* group(Index first) const { return data.get() + first * depth; }
};

template <Index M, Index N>
INLINE void store_tile(const Vec (&acc)[M][N], float* to, Index line, Index columns) {
#pragma GCC unroll 8
    for (Index m = 0; m < M; ++m)
#pragma GCC unroll 8
        for (Index n = 0; n < N; ++n) {
            if (columns >= (n + 1) * V) {
                store(to + m * line + n * V, acc[m][n]);
            } else {
                store_first(to + m * line + n * V, acc[m][n], columns - n * V);
            }
        }
}

INLINE Vec load_columns(const float* from, Index columns) {
    return columns >= V ? load(from) : load_first(from, columns);
}

// Call run(Size<N>, first) for each group of up to 4 vectors of columns.
template <typename Run>
INLINE void for_groups(Index padded, Run run) {
    for (Index first = 0; first < padded; first += WIDE) {
        const Index vectors = std::min<Index>(4, (padded - first) / V);
        if (vectors == 4) run(Size<4>{}, first);
        if (vectors == 3) run(Size<3>{}, first);
        if (vectors == 2) run(Size<2>{}, first);
        if (vectors == 1) run(Size<1>{}, first);
    }
}

// output = base + weight · x + bias on some positions; `base` may be null.
struct ForwardProduct {
    Index features, outputs;
    Packed weight, bias;

    ForwardProduct(Index features, Index outputs, const float* from, const float* bias_from)
        : features(features), outputs(outputs), weight(features, outputs, [&](Index k, Index n) { return from[n * features + k]; }),
          bias(1, outputs, [&](Index, Index n) { return bias_from[n]; }) {}

    void run(Index rows, const float* x, const float* base, float* output) const {
        for_groups(weight.padded, [&](auto vectors, Index first) {
            constexpr Index N = decltype(vectors)::value;
            const Index columns = outputs - first;
            for_tiles<TALL<N>>(rows, [&](auto size, Index m) __attribute__((always_inline)) {
                constexpr Index M = decltype(size)::value;
                Vec acc[M][N];
                const Index at = m * outputs + first;
#pragma GCC unroll 8
                for (Index n = 0; n < N; ++n) {
                    const Vec start = load(bias.group(first) + n * V);
#pragma GCC unroll 8
                    for (Index r = 0; r < M; ++r)
                        acc[r][n] = base == nullptr
                                        ? start
                                        : start + load_columns(base + at + r * outputs + n * V, columns - n * V);
                }
                multiply<M, N>(acc, x + m * features, features, 1, weight.group(first), N * V, features);
                store_tile<M, N>(acc, output + at, outputs, columns);
            });
        });
    }
};

// Gradients of the same product. A task adds up those of weight and bias, as [group of outputs][feature, then the
// bias][output].
struct BackwardProduct {
    Index features, outputs, padded, sums_size;
    Packed transposed;

    BackwardProduct(Index features, Index outputs, const float* from)
        : features(features), outputs(outputs), padded(round_up(outputs, V)), sums_size((features + 1) * padded),
          transposed(outputs, features, [&](Index k, Index n) { return from[k * features + n]; }) {}

    // Where gradients of narrow outputs are padded to whole vectors.
    Buffer scratch() const { return allocate(padded == outputs ? 0 : CHUNK * padded); }

    // At most CHUNK rows; with `rectify`, x is max(0, x) already, and d_x is that of x before.
    void run(Index rows, const float* x, const float* d_output, bool rectify, float* d_x, float* sums, float* scratch) const {
        for_groups(transposed.padded, [&](auto vectors, Index first) {
            constexpr Index N = decltype(vectors)::value;
            const Index columns = features - first;
            for_tiles<TALL<N>>(rows, [&](auto size, Index m) __attribute__((always_inline)) {
                constexpr Index M = decltype(size)::value;
                Vec acc[M][N] = {};
                multiply<M, N>(acc, d_output + m * outputs, outputs, 1, transposed.group(first), N * V, outputs);
                if (rectify) {
#pragma GCC unroll 8
                    for (Index r = 0; r < M; ++r)
#pragma GCC unroll 8
                        for (Index n = 0; n < N; ++n) {
                            const Vec value = load_columns(x + (m + r) * features + first + n * V, columns - n * V);
                            acc[r][n] = value > Vec{} ? acc[r][n] : Vec{};
                        }
                }
                store_tile<M, N>(acc, d_x + m * features + first, features, columns);
            });
        });
        if (padded != outputs) {
            for (Index m = 0; m < rows; ++m) {
                copy_row(scratch + m * padded, d_output + m * outputs, outputs);
                std::fill(scratch + m * padded + outputs, scratch + (m + 1) * padded, 0.0f);
            }
            d_output = scratch;
        }
        for_groups(padded, [&](auto vectors, Index first) {
            constexpr Index N = decltype(vectors)::value;
            float* to = sums + first * (features + 1);
            for_tiles<TALL<N>>(features, [&](auto size, Index m) __attribute__((always_inline)) {
                constexpr Index M = decltype(size)::value;
                Vec acc[M][N];
#pragma GCC unroll 8
                for (Index r = 0; r < M; ++r)
#pragma GCC unroll 8
                    for (Index n = 0; n < N; ++n) acc[r][n] = load(to + (m + r) * N * V + n * V);
                multiply<M, N>(acc, x + m, 1, features, d_output + first, padded, rows);
#pragma GCC unroll 8
                for (Index r = 0; r < M; ++r)
#pragma GCC unroll 8
                    for (Index n = 0; n < N; ++n) store(to + (m + r) * N * V + n * V, acc[r][n]);
            });
            Vec totals[N];
            for (Index n = 0; n < N; ++n) totals[n] = load(to + (features * N + n) * V);
            for (Index m = 0; m < rows; ++m)
                for (Index n = 0; n < N; ++n) totals[n] += load(d_output + m * padded + first + n * V);
            for (Index n = 0; n < N; ++n) store(to + (features * N + n) * V, totals[n]);
        });
    }

    // Undo the packing of sums.
    void unpack(const float* sums, float* d_weight, float* d_bias) const {
        for (Index first = 0; first < padded; first += WIDE) {
            const Index columns = std::min(WIDE, padded - first);
            const float* from = sums + first * (features + 1);
            for (Index n = 0; n < std::min(columns, outputs - first); ++n) {
                for (Index k = 0; k < features; ++k) d_weight[(first + n) * features + k] = from[k * columns + n];
                d_bias[first + n] = from[features * columns + n];
            }
        }
    }
};

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
