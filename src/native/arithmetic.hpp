// What a scan computes in: floats, or integers held in doubles, where `Arithmetic` is that of pixelrnn.codec.fixed_point. Sums
// of products are rounded once, before anything else is done with them; of floats there is nothing to round.

#pragma once

#include <algorithm>
#include <vector>

#if !defined(PIXELRNN_EXACT)
#include "functions.hpp"
#endif
#include "scan.hpp"
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
    explicit Function(const Table& table)
        : values_(table.values, table.values + table.size), last_(static_cast<Real>(table.size - 1)) {
        values_.push_back(0);  // read beside the last
    }
    INLINE Vec operator()(Vec x) const {
        const Vec size = x < Vec{} ? -x : x, bound = broadcast(last_), place = size > bound ? bound : size;
#if defined(__AVX512F__)
        const __m256i at = _mm512_maskz_cvttpd_epi32(0xff, (__m512d)place);
        const __m256i found = _mm256_i32gather_epi32(reinterpret_cast<const int*>(values_.data()), at, sizeof(std::uint16_t));
        return (Vec)_mm512_maskz_cvtepi32_pd(0xff, _mm256_and_si256(found, _mm256_set1_epi32(0xffff)));
#else
        Vec found;
        for (Index k = 0; k < V; ++k) found[k] = values_[static_cast<std::size_t>(static_cast<std::int32_t>(place[k]))];
        return found;
#endif
    }

private:
    std::vector<std::uint16_t> values_;
    Real last_;
};

class Arithmetic {
public:
    explicit Arithmetic(const Network& network)
        : encode_(network.tables->encode.values, network.tables->encode.values + network.tables->encode.size),
          sigmoid_(network.tables->sigmoid), tanh_(network.tables->tanh) {}

    // Symbols that are not there yet may be anything.
    Real encode(std::int64_t symbol) const { return encode_[std::clamp<std::int64_t>(symbol, 0, static_cast<std::int64_t>(encode_.size()) - 1)]; }
    // A number from a product, halves up.
    static INLINE Vec rounded(Vec product) { return floor(product * broadcast(1 / ONE) + broadcast(0.5)); }
    static INLINE Vec feature(Vec sum) { return clamp(rounded(sum), FEATURE); }
    static INLINE Vec state(Vec sum) { return clamp(rounded(sum), CELL); }
    INLINE Vec sigmoid(Vec x) const {
        const Vec found = sigmoid_(x);
        return x < Vec{} ? broadcast(ONE) - found : found;
    }
    INLINE Vec tanh(Vec x) const {
        const Vec found = tanh_(x);
        return x < Vec{} ? -found : found;
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
