// What a scan computes in: floats, or integers held in doubles, where `Arithmetic` is that of pixelrnn.codec.fixed_point. Sums
// of products are rounded once, before anything else is done with them; of floats there is nothing to round.

#pragma once

#include <algorithm>
#include <vector>

#if !defined(PIXELRNN_EXACT)
#include "functions.hpp"
#endif
#include "scan/scan.hpp"
#include "vector.hpp"

namespace pixelrnn::PIXELRNN_ISA {

using Instruction = pixelrnn::Instruction<Real>;
using Network = pixelrnn::Network<Real>;
using Scan = pixelrnn::Scan<Real>;
using ScanKernel = pixelrnn::ScanKernel<Real>;

#if defined(PIXELRNN_EXACT)

// ⌊x⌋ for |x| < 2^51.
INLINE Vec floor(Vec x) {
#if defined(__AVX512F__)
    return (Vec)_mm512_maskz_roundscale_pd(0xff, (__m512d)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#elif defined(__AVX__)
    return (Vec)_mm256_floor_pd((__m256d)x);
#else
    // Adding 1.5 · 2^52 rounds to a whole number, which may be the one above.
    const Vec shifter = broadcast(6755399441055744.0), nearest = (x + shifter) - shifter;
    return nearest > x ? nearest - broadcast(1) : nearest;
#endif
}

// A function of |x|.
class Function {
public:
    explicit Function(const Lookup& lookup)
        : values_(lookup.values, lookup.values + lookup.size), last_(static_cast<Real>(lookup.size - 1)) {
        values_.push_back(0);  // two values are read at once
    }
    INLINE Vec operator()(Vec x) const {
        const Vec magnitude = x < Vec{} ? -x : x, last = broadcast(last_), place = magnitude > last ? last : magnitude;
#if defined(__AVX512F__)
        const __m256i index = _mm512_maskz_cvttpd_epi32(0xff, (__m512d)place);
        const __m256i pairs = _mm256_i32gather_epi32(reinterpret_cast<const int*>(values_.data()), index, sizeof(std::uint16_t));
        return (Vec)_mm512_maskz_cvtepi32_pd(0xff, _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff)));
#else
        Vec values;
        for (Index k = 0; k < V; ++k) values[k] = values_[static_cast<std::size_t>(static_cast<std::int32_t>(place[k]))];
        return values;
#endif
    }

private:
    std::vector<std::uint16_t> values_;
    Real last_;
};

class Arithmetic {
public:
    explicit Arithmetic(const Network& network)
        : encode_(network.lookups->encode.values, network.lookups->encode.values + network.lookups->encode.size),
          sigmoid_(network.lookups->sigmoid), tanh_(network.lookups->tanh) {}

    // Symbols that are not there yet may be anything.
    Real encode(std::int64_t symbol) const { return encode_[std::clamp<std::int64_t>(symbol, 0, static_cast<std::int64_t>(encode_.size()) - 1)]; }
    // A number from a product, halves up.
    static INLINE Vec rounded(Vec product) { return floor(product * broadcast(1 / ONE) + broadcast(0.5)); }
    static INLINE Vec feature(Vec sum) { return clamp(rounded(sum), FEATURE); }
    static INLINE Vec state(Vec sum) { return clamp(rounded(sum), CELL); }
    INLINE Vec sigmoid(Vec x) const {
        const Vec positive = sigmoid_(x);
        return x < Vec{} ? broadcast(ONE) - positive : positive;
    }
    INLINE Vec tanh(Vec x) const {
        const Vec positive = tanh_(x);
        return x < Vec{} ? -positive : positive;
    }

private:
    static constexpr Real ONE = 1 << 12, CELL = 1 << 20, FEATURE = 1 << 23;

    std::vector<Real> encode_;
    Function sigmoid_, tanh_;
};

#else

class Arithmetic {
public:
    explicit Arithmetic(const Network& network) : scale_(2.0f / static_cast<float>(network.head.levels - 1)) {}

    Real encode(std::int64_t symbol) const { return static_cast<float>(symbol) * scale_ - 1; }
    static INLINE Vec rounded(Vec product) { return product; }
    static INLINE Vec feature(Vec sum) { return sum; }
    static INLINE Vec state(Vec sum) { return sum; }
    INLINE Vec sigmoid(Vec x) const { return PIXELRNN_ISA::sigmoid(x); }
    INLINE Vec tanh(Vec x) const { return PIXELRNN_ISA::tanh(x); }

private:
    float scale_;
};

#endif

}  // namespace pixelrnn::PIXELRNN_ISA
