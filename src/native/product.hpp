// Matrix products whose left matrices are rows of maps, forward and backward: convolutions, and the 1 × 1 convolution
// behind a recurrence. A left matrix is given in terms, side by side; its rows may overlap.

#pragma once

#include <vector>

#include "tasks.hpp"
#include "tiles.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

constexpr Index CHUNK = 96;  // positions whose maps stay in the first-level cache

// Rows of a register tile of N vectors: enough sums at a time that none waits for the one before.
template <Index N>
constexpr Index TALL = N <= 2 ? std::max<Index>(8, TILE) : TILE;

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

// Call run(row, vector) for each vector of a tile, unrolled.
template <Index M, Index N, typename Run>
INLINE void for_vectors(Run run) {
#pragma GCC unroll 16
    for (Index m = 0; m < M; ++m)
#pragma GCC unroll 8
        for (Index n = 0; n < N; ++n) run(m, n);
}

// The right matrix, its columns in groups of up to WIDE: [group][depth][column of the group], padded to whole vectors.
struct Packed {
    Index depth, padded;
    Buffer data;

    template <typename Value>
    Packed(Index depth, Index columns, Value value) : depth(depth), padded(round_up(columns, V)), data(allocate(depth * padded)) {
        Real* to = data.get();
        for (Index first = 0; first < padded; first += WIDE)
            for (Index k = 0; k < depth; ++k)
                for (Index n = first; n < std::min(first + WIDE, padded); ++n) *to++ = n < columns ? value(k, n) : 0;
    }
    const Real* group(Index first) const { return data.get() + first * depth; }
};

// A part of the left matrix: row m, column k is at left[m · step + k].
struct Term {
    const Real* left;
    Index step, depth;
};

INLINE Vec load_columns(const Real* from, Index columns) {
    return columns >= V ? load(from) : load_first(from, columns);
}

INLINE void store_columns(Real* to, Vec v, Index columns) {
    if (columns >= V) {
        store(to, v);
    } else {
        store_first(to, v, columns);
    }
}

// to (rows × columns, `line` floats from row to row) = terms · right. Sums begin as begin(group, vector, element, columns
// left), and what is stored is end(sum, element, columns left).
template <typename Begin, typename End>
INLINE void multiply_terms(Index rows, Index columns, const std::vector<Term>& terms, const Packed& right, Real* to,
                           Index line, Begin begin, End end) {
    for_groups(right.padded, [&](auto vectors, Index first) {
        constexpr Index N = decltype(vectors)::value;
        for_tiles<TALL<N>>(rows, [&](auto size, Index m) __attribute__((always_inline)) {
            constexpr Index M = decltype(size)::value;
            Vec acc[M][N];
            const Index at = m * line + first, left = columns - first;
            for_vectors<M, N>([&](Index r, Index n) __attribute__((always_inline)) {
                acc[r][n] = begin(first, n, at + r * line + n * V, left - n * V);
            });
            const Real* weights = right.group(first);
            for (const Term& term : terms) {
                multiply<M, N>(acc, term.left + m * term.step, term.step, 1, weights, N * V, term.depth);
                weights += term.depth * N * V;
            }
            for_vectors<M, N>([&](Index r, Index n) __attribute__((always_inline)) {
                const Index element = at + r * line + n * V;
                store_columns(to + element, end(acc[r][n], element, left - n * V), left - n * V);
            });
        });
    });
}

// output = base + weight · x + bias on some positions.
struct ForwardProduct {
    Index outputs;
    Packed weight, bias;

    template <typename Value>
    ForwardProduct(Index depth, Index outputs, Value value, const Real* bias_from)
        : outputs(outputs), weight(depth, outputs, value), bias(1, outputs, [&](Index, Index n) { return bias_from[n]; }) {}

    // `base` may be null.
    void run(Index rows, const std::vector<Term>& x, const Real* base, Real* output) const {
        multiply_terms(
            rows, outputs, x, weight, output, outputs,
            [&](Index first, Index n, Index at, Index columns) __attribute__((always_inline)) {
                const Vec start = load(bias.group(first) + n * V);
                return base == nullptr ? start : start + load_columns(base + at, columns);
            },
            [](Vec sum, Index, Index) __attribute__((always_inline)) { return sum; });
    }
};

// Rows of a left matrix and of a right one that meet in a product of the transposed left with the right.
struct Window {
    const Real* left;
    Index left_step;
    const Real* right;
    Index right_step, rows;
};

// to (columns × N vectors) += Σ leftᵀ · right over windows, each moved by some floats: gradients of weights.
template <Index N>
INLINE void add_transposed(Real* to, Index columns, const std::vector<Window>& windows, Index move_left, Index move_right) {
    for_tiles<TALL<N>>(columns, [&](auto size, Index m) __attribute__((always_inline)) {
        constexpr Index M = decltype(size)::value;
        Vec acc[M][N];
        for_vectors<M, N>([&](Index r, Index n) __attribute__((always_inline)) { acc[r][n] = load(to + (m + r) * N * V + n * V); });
        for (const Window& window : windows)
            multiply<M, N>(acc, window.left + move_left + m, 1, window.left_step, window.right + move_right,
                           window.right_step, window.rows);
        for_vectors<M, N>([&](Index r, Index n) __attribute__((always_inline)) { store(to + (m + r) * N * V + n * V, acc[r][n]); });
    });
}

// Gradients of the same product. A task adds up those of weight and bias, as [group of outputs][depth, then the
// bias][output].
struct BackwardProduct {
    // A part of the depth of the weights: columns of the left matrices, and how far it lies from the windows given.
    struct Part {
        Index columns, move;
    };

    Index depth, features, outputs, padded, sums_size;
    Packed transposed;

    // `value` is of the transposed weight: of each of the (padded) outputs that an input went to, and of each feature.
    template <typename Value>
    BackwardProduct(Index depth, Index features, Index outputs, Index terms, Value value)
        : depth(depth), features(features), outputs(outputs), padded(round_up(outputs, V)), sums_size((depth + 1) * padded),
          transposed(terms, features, value) {}

    // Gradients of x, added to `base` if that is not null; if it was max(0, x) that was multiplied, `rectified` is x or
    // that, and null if not.
    void inputs(Index rows, const std::vector<Term>& d_output, const Real* rectified, const Real* base, Real* d_x) const {
        multiply_terms(
            rows, features, d_output, transposed, d_x, features,
            [](Index, Index, Index, Index) __attribute__((always_inline)) { return Vec{}; },
            [&](Vec sum, Index at, Index columns) __attribute__((always_inline)) {
                if (rectified != nullptr) sum = load_columns(rectified + at, columns) > Vec{} ? sum : Vec{};
                return base == nullptr ? sum : sum + load_columns(base + at, columns);
            });
    }

    // Add gradients of weight and bias; the right matrices of the windows are those of padded outputs.
    void weights(const std::vector<Window>& windows, const std::vector<Part>& parts, Real* sums) const {
        for_groups(padded, [&](auto vectors, Index first) {
            constexpr Index N = decltype(vectors)::value;
            Real* to = sums + first * (depth + 1);
            for (const Part& part : parts) {
                add_transposed<N>(to, part.columns, windows, part.move, first);
                to += part.columns * N * V;
            }
            Vec totals[N];
            for (Index n = 0; n < N; ++n) totals[n] = load(to + n * V);
            for (const Window& window : windows)
                for (Index m = 0; m < window.rows; ++m)
                    for (Index n = 0; n < N; ++n) totals[n] += load(window.right + first + m * window.right_step + n * V);
            for (Index n = 0; n < N; ++n) store(to + n * V, totals[n]);
        });
    }

    // Undo the packing of sums: d_weight(output, depth) is where that gradient goes.
    template <typename Place>
    void unpack(const Real* sums, Place d_weight, Real* d_bias) const {
        for (Index first = 0; first < padded; first += WIDE) {
            const Index columns = std::min(WIDE, padded - first);
            const Real* from = sums + first * (depth + 1);
            for (Index n = 0; n < std::min(columns, outputs - first); ++n) {
                for (Index k = 0; k < depth; ++k) *d_weight(first + n, k) = from[k * columns + n];
                d_bias[first + n] = from[depth * columns + n];
            }
        }
    }
};

// Rows with zeros after the first `features`.
inline void pad_rows(Real* to, const Real* from, Index rows, Index features, Index padded) {
    for (Index m = 0; m < rows; ++m) {
        copy_row(to + m * padded, from + m * features, features);
        std::fill(to + m * padded + features, to + (m + 1) * padded, Real{});
    }
}

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
