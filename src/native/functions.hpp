// Sigmoid and tanh of vectors of floats.

#pragma once

#include "vector.hpp"

namespace pixelrnn::PIXELRNN_ISA {

typedef std::int32_t IntVec __attribute__((vector_size(BYTES)));

// 1 / x for x of ordinary size, to about the last bit.
INLINE Vec reciprocal(Vec x) {
#if defined(__AVX512F__)
    Vec y = (Vec)_mm512_maskz_rcp14_ps(0xffff, (__m512)x);
    return y + y * (broadcast(1) - x * y);
#else
    return broadcast(1) / x;
#endif
}

// A power of two, 2^t = 2^n · (1 + fraction), for t within ± 126.
struct Power {
    Vec fraction;  // with a small relative error also near 0
    IntVec exponent;  // n, in the place of a float's exponent

    // Σ c_k f^k approximates (2^f - 1) / f on ± 1/2, with the coefficients given.
    template <Index N>
    INLINE Power(Vec t, const float (&c)[N]) {
        // Adding 1.5 · 2^23 rounds t to a whole number n and leaves it in the low bits.
        const Vec shifter = broadcast(12582912.0f), shifted = t + shifter;
        const Vec f = t - (shifted - shifter);
        Vec q = broadcast(c[N - 1]);
        for (Index k = N - 1; k-- > 0;) q = q * f + broadcast(c[k]);
        fraction = q * f;
        std::memcpy(&exponent, &shifted, sizeof exponent);
        exponent = exponent << 23;  // the bits of the shifter above n are shifted out
    }

    INLINE Vec scaled(Vec x) const {  // 2^n · x, for x of ordinary size
        IntVec bits;
        std::memcpy(&bits, &x, sizeof bits);
        bits += exponent;
        std::memcpy(&x, &bits, sizeof x);
        return x;
    }
};

constexpr float LOG2_E = 1.44269504f;

// 1 / (1 + e^-x), with an absolute error of 1e-7.
INLINE Vec sigmoid(Vec x) {
    // Least maximal error relative to 2^f: 9.2e-8.
    constexpr float c[] = {0.69314698f, 0.24022242f, 0.05550734f, 0.00967151f, 0.00132647f};
    const Power power(clamp(x * broadcast(-LOG2_E), 80), c);
    return reciprocal(broadcast(1) + power.scaled(broadcast(1) + power.fraction));
}

// (e^2x - 1) / (e^2x + 1), with a relative error of 2e-7.
INLINE Vec tanh(Vec x) {
    // Least maximal error relative to (2^f - 1) / f: 1.1e-8.
    constexpr float c[] = {0.693147188f, 0.240226498f, 0.0555035743f, 0.00961823749f, 0.00133907356f, 0.000154035126f};
    const Power power(clamp(x * broadcast(2 * LOG2_E), 30), c);
    const Vec scale = power.scaled(broadcast(1)), e = power.fraction * scale + (scale - broadcast(1));
    return e * reciprocal(e + broadcast(2));
}

}  // namespace pixelrnn::PIXELRNN_ISA
