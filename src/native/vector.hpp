// Vectors of floats, or of doubles, as wide as the instruction set this file is compiled for, by the vector extensions of
// GCC and Clang.

#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "front_lstm.hpp"

#define INLINE inline __attribute__((always_inline))

namespace pixelrnn::PIXELRNN_ISA {

// What is computed with: integers, if exact, are held in doubles.
#if defined(PIXELRNN_EXACT)
using Real = double;
#else
using Real = float;
#endif

#if defined(__AVX512F__)
constexpr Index BYTES = 64, TILE = 6;  // of a vector; rows of a register tile of 4 vectors each
#elif defined(__AVX__)
constexpr Index BYTES = 32, TILE = 2;
#elif defined(__aarch64__)
constexpr Index BYTES = 16, TILE = 6;
#else
constexpr Index BYTES = 16, TILE = 2;
#endif
constexpr Index V = BYTES / Index{sizeof(Real)};  // lanes

typedef Real Vec __attribute__((vector_size(BYTES)));

constexpr Index round_up(Index n, Index step) { return (n + step - 1) / step * step; }

INLINE Vec load(const Real* from) {
    Vec v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

// Store what will not be read for long, past the cache where the processor can; `to` is aligned to a vector.
INLINE void store_away(Real* to, Vec v) {
#if defined(__AVX512F__)
    _mm512_stream_si512((__m512i*)to, (__m512i)v);
#else
    std::memcpy(to, &v, sizeof v);
#endif
}

// Before what was stored away is read by another thread.
INLINE void finish_stores() {
#if defined(__AVX512F__)
    _mm_sfence();
#endif
}

INLINE void store(Real* to, Vec v) { std::memcpy(to, &v, sizeof v); }

INLINE Vec broadcast(Real x) { return x - Vec{}; }

// The first n < V numbers, then zeros.
INLINE Vec load_first(const Real* from, Index n) {
    Real lanes[V] = {};
    for (Index k = 0; k < n; ++k) lanes[k] = from[k];
    return load(lanes);
}

INLINE void store_first(Real* to, Vec v, Index n) {
    Real lanes[V];
    store(lanes, v);
    for (Index k = 0; k < n; ++k) to[k] = lanes[k];
}

INLINE Vec clamp(Vec x, Real limit) {  // a nan stays one
    const Vec bound = broadcast(limit);
    x = x > bound ? bound : x;
    return x < -bound ? -bound : x;
}

// acc[m][n] += Σ_k a[m · row + k · step] · b[k · width + n], n in vectors: the product that everything here consists of.
template <Index M, Index N>
INLINE void multiply(Vec (&acc)[M][N], const Real* a, Index row, Index step, const Real* b, Index width, Index depth) {
    for (Index k = 0; k < depth; ++k, a += step, b += width) {
        Vec right[N];
#pragma GCC unroll 8
        for (Index n = 0; n < N; ++n) right[n] = load(b + n * V);
#pragma GCC unroll 8
        for (Index m = 0; m < M; ++m) {
            const Vec left = broadcast(a[m * row]);
#pragma GCC unroll 8
            for (Index n = 0; n < N; ++n) acc[m][n] += left * right[n];
        }
    }
}

}  // namespace pixelrnn::PIXELRNN_ISA
