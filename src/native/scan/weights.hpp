// Products of weights with rows that lie anywhere: those of registers, or of what layers remember.

#pragma once

#include "scan/part.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// Rows of a tile of N vectors of columns: as many as the processor has registers for, as all weights are read for each tile;
// one is left for a scalar of the left matrix.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr Index VECTOR_REGISTERS = 32;
#else
constexpr Index VECTOR_REGISTERS = 16;
#endif
template <Index N>
constexpr Index ROWS = std::min<Index>(14, (VECTOR_REGISTERS - 1 - N) / N);

// The weights that a column of the left matrix meets: for output r, from[r · stride].
struct Column {
    const Real* from;
    Index stride;
};

// Append those of taps of so many features: (outputs, features, taps), as tap after tap, each with all features.
inline void append_taps(std::vector<Column>& columns, const Real* weight, Index features, Index taps) {
    for (Index tap = 0; tap < taps; ++tap)
        for (Index f = 0; f < features; ++f) columns.push_back({weight + f * taps + tap, features * taps});
}

// Weights of a sum over terms, for each colour by itself.
class Weights {
public:
    // Terms are how many numbers each has; of each colour, `outputs` are the outputs that it computes, -1 for padding;
    // `bias` may be null.
    Weights(const std::vector<Index>& terms, const std::vector<Column>& columns, const std::vector<std::vector<Index>>& outputs,
            const Real* bias)
        : terms_(terms) {
        for (const std::vector<Index>& of_colour : outputs) {
            const Index count = static_cast<Index>(of_colour.size());
            weight_.emplace_back(static_cast<Index>(columns.size()), count, [&](Index k, Index n) {
                return of_colour[n] < 0 ? Real{} : columns[k].from[of_colour[n] * columns[k].stride];
            });
            bias_.emplace_back(1, count, [&](Index, Index n) { return of_colour[n] < 0 || bias == nullptr ? Real{} : bias[of_colour[n]]; });
        }
    }

    Index terms() const { return static_cast<Index>(terms_.size()); }
    Index padded(Index colour) const { return weight_[colour].padded; }

    // The sums of so many rows. Row m of the left matrix is terms[0] numbers from left[m], terms[1] numbers
    // from left[rows + m], and so on. They are in one order whatever the tile is: a position has the same bits in any wave.
    void run(Index colour, Index rows, const Real* const* left, const Target& target, const Part& part) const {
        if (target.columns % V == 0) {
            multiply(colour, rows, left, target);
            return;
        }
        const Index stride = padded(colour);
        multiply(colour, rows, left, {part.sums.get(), stride});
        for (Index m = 0; m < rows; ++m)
            for (Index n = 0; n < target.columns; n += V) target.put(m, n, Arithmetic::feature(load(part.sums.get() + m * stride + n)));
    }

private:
    void multiply(Index colour, Index rows, const Real* const* left, const Target& target) const {
        for_groups(padded(colour), [&](auto vectors, Index first) __attribute__((always_inline)) {
            constexpr Index N = decltype(vectors)::value;
            const Real* right = weight_[colour].group(first);
            if constexpr (N > 2) {
                if (rows > ROWS<N>) {  // two vectors at a time, of more rows
                    multiply_columns<2>(colour, rows, left, right, N * V, first, target);
                    multiply_columns<N - 2>(colour, rows, left, right + 2 * V, N * V, first + 2 * V, target);
                    return;
                }
            }
            multiply_columns<N>(colour, rows, left, right, N * V, first, target);
        });
    }

    template <Index N>
    void multiply_columns(Index colour, Index rows, const Real* const* left, const Real* right, Index width, Index first,
                          const Target& target) const {
        const Real* bias = bias_[colour].data.get() + first;  // of one row: the groups lie one after the other
        constexpr Index most = ROWS<N>;
        const Index tiles = (rows + most - 1) / most;  // of like size
        for (Index tile = 0; tile < tiles; ++tile) {
            const Index m = rows * tile / tiles, count = rows * (tile + 1) / tiles - m;
            (this->*tiles_of<N>(std::make_integer_sequence<Index, most>{})[count - 1])(rows, left + m, right, width, bias,
                                                                                       m * target.stride + first, target);
        }
    }

    using MultiplyTile = void (Weights::*)(Index, const Real* const*, const Real*, Index, const Real*, Index, const Target&) const;
    // `multiply_tile` for 1, 2, … rows.
    template <Index N, Index... M>
    static const MultiplyTile* tiles_of(std::integer_sequence<Index, M...>) {
        static constexpr MultiplyTile tiles[] = {&Weights::multiply_tile<M + 1, N>...};
        return tiles;
    }

    // M rows from left[0] on, of `rows`, times N vectors of `right`, of rows of `width` numbers. The result begins at an
    // element of the target.
    template <Index M, Index N>
    void multiply_tile(Index rows, const Real* const* left, const Real* right, Index width, const Real* bias, Index element,
                       const Target& target) const {
        Vec acc[M][N];
        for_vectors<M, N>([&](Index m, Index n) __attribute__((always_inline)) { acc[m][n] = load(bias + n * V); });
        for (const Index depth : terms_) {
            const Real* row[M];
#pragma GCC unroll 16
            for (Index m = 0; m < M; ++m) row[m] = left[m];
            for (Index k = 0; k < depth; ++k, right += width) {
                Vec vectors[N];
#pragma GCC unroll 8
                for (Index n = 0; n < N; ++n) {
                    vectors[n] = load(right + n * V);
                    // Of large networks weights come from far; one row does not work long enough on them for it to help.
                    if (M > 1) __builtin_prefetch(right + 12 * width + n * V);
                }
#pragma GCC unroll 16
                for (Index m = 0; m < M; ++m) {
                    const Vec scalar = broadcast(row[m][k]);
#pragma GCC unroll 8
                    for (Index n = 0; n < N; ++n) acc[m][n] += scalar * vectors[n];
                }
            }
            left += rows;
        }
        write_tile<M, N>(acc, element, target);
    }

    template <Index M, Index N>
    static INLINE void write_tile(Vec (&acc)[M][N], Index element, const Target& target) {
        const auto at = [&](Index m, Index n) __attribute__((always_inline)) { return element + m * target.stride + n * V; };
        if (target.rounds)
            for_vectors<M, N>([&](Index m, Index n) __attribute__((always_inline)) { acc[m][n] = Arithmetic::feature(acc[m][n]); });
        if (target.base != nullptr)
            for_vectors<M, N>([&](Index m, Index n) __attribute__((always_inline)) { acc[m][n] += load(target.base + at(m, n)); });
        for_vectors<M, N>([&](Index m, Index n) __attribute__((always_inline)) { store(target.to + at(m, n), acc[m][n]); });
        if (target.positive != nullptr)
            for_vectors<M, N>([&](Index m, Index n) __attribute__((always_inline)) {
                store(target.positive + at(m, n), max_with_zero(acc[m][n]));
            });
    }

    std::vector<Index> terms_;  // numbers of each
    std::vector<Packed> weight_, bias_;
};

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
