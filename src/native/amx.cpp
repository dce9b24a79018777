// Products of bfloat16 matrices by tile registers. Built once, with the flags that this needs, if the compiler has them.

#include "amx.hpp"

#if defined(__AMX_BF16__) && defined(__linux__)

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace pixelrnn::amx {
namespace {

struct alignas(64) Configuration {
    std::uint8_t palette = 1, start = 0, reserved[14] = {};
    std::uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// What instructions for tiles read, the sanitizer does not see: read the ends of the rows once more.
void touch([[maybe_unused]] const void* tile, [[maybe_unused]] Index step) {
#if defined(__SANITIZE_ADDRESS__)
    for (Index row = 0; row < ROWS; ++row) {
        const auto* bytes = static_cast<const volatile char*>(tile) + row * step;
        (void)bytes[0];
        (void)bytes[63];
    }
#endif
}

// 32 columns of 16 · M rows: sums in tiles 0 to 3, left matrix in 4 and 5, right matrix in 6 and 7.
template <int M>
void multiply_tiles(float* c, Index step, const Term* terms, Index count, Index row, const Half* right, Index width, bool add) {
    const Index bytes = step * sizeof(float), down = ROWS * step;
    if (add) {
        _tile_loadd(0, c, bytes);
        _tile_loadd(1, c + 16, bytes);
        if (M > 1) {
            _tile_loadd(2, c + down, bytes);
            _tile_loadd(3, c + down + 16, bytes);
        }
    } else {
        _tile_zero(0);
        _tile_zero(1);
        if (M > 1) {
            _tile_zero(2);
            _tile_zero(3);
        }
    }
    for (const Term* term = terms; term < terms + count; ++term) {
        const Half* left = term->left + row * term->step;
        for (Index k = 0; k < term->depth; k += DEPTH, right += DEPTH * width) {
            touch(right, width * 2 * sizeof(Half));
            touch(right + 32, width * 2 * sizeof(Half));
            touch(left + k, term->step * sizeof(Half));
            _tile_loadd(6, right, width * 2 * sizeof(Half));
            _tile_loadd(7, right + 32, width * 2 * sizeof(Half));
            _tile_loadd(4, left + k, term->step * sizeof(Half));
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            if (M > 1) {
                touch(left + ROWS * term->step + k, term->step * sizeof(Half));
                _tile_loadd(5, left + ROWS * term->step + k, term->step * sizeof(Half));
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
    }
    _tile_stored(0, c, bytes);
    _tile_stored(1, c + 16, bytes);
    if (M > 1) {
        _tile_stored(2, c + down, bytes);
        _tile_stored(3, c + down + 16, bytes);
    }
}

// Two rows of 16 numbers as pairs of halves, the first in the low bits; null: zeros.
__m512i wide(const float* row) {
    return row == nullptr ? _mm512_setzero_si512() : _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(row)));
}
__m512i wide(const Half* row) {
    return row == nullptr ? _mm512_setzero_si512() : _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)row));
}
template <typename Number>
__m512i pairs(const Number* first, const Number* second) {
    return _mm512_or_si512(wide(first), _mm512_slli_epi32(wide(second), 16));
}

// Transpose 16 × 16 pairs: swap each bit of the row with that of the column.
void transpose_pairs(__m512i (&v)[16]) {
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
#pragma GCC unroll 4
    for (int bit = 1; bit < 16; bit *= 2) {
        const __mmask16 set = _mm512_test_epi32_mask(lanes, _mm512_set1_epi32(bit));
        const __m512i flipped = _mm512_xor_si512(lanes, _mm512_set1_epi32(bit)), other = _mm512_set1_epi32(16);
        const __m512i low = _mm512_mask_add_epi32(lanes, set, flipped, other);
        const __m512i high = _mm512_mask_add_epi32(flipped, set, lanes, other);
#pragma GCC unroll 16
        for (int n = 0; n < 16; ++n)
            if ((n & bit) == 0) {
                const __m512i a = v[n], b = v[n | bit];
                v[n] = _mm512_permutex2var_epi32(a, low, b);
                v[n | bit] = _mm512_permutex2var_epi32(a, high, b);
            }
    }
}

bool request() {
    constexpr int ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
    unsigned a = 0, b = 0, c = 0, d = 0, bfloat16 = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !__get_cpuid_count(7, 1, &bfloat16, &b, &c, &a)) return false;
    const bool amx_bf16 = d >> 22 & 1, amx_tile = d >> 24 & 1, avx512_bf16 = bfloat16 >> 5 & 1;
    return amx_bf16 && amx_tile && avx512_bf16 && syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

}  // namespace

bool available() {
    static const bool granted = request();
    return granted;
}

void multiply(float* c, Index step, Index rows, const Term* terms, Index count, const Half* right, Index width, bool add) {
    const Configuration configuration;
    _tile_loadconfig(&configuration);
    for (Index row = 0; row < rows; row += 2 * ROWS)
        for (Index column = 0; column < width; column += COLUMNS) {
            auto* product = rows - row > ROWS ? multiply_tiles<2> : multiply_tiles<1>;
            product(c + row * step + column, step, terms, count, row, right + 2 * column, width, add);
        }
    _tile_release();
}

void round(Half* to, const float* from, Index count, bool rectify) {
    // The maximum of two of which one is a nan is the second: a nan stays one.
    const auto rounded = [&](__m512 x) { return (__m256i)_mm512_cvtneps_pbh(rectify ? _mm512_max_ps(_mm512_setzero_ps(), x) : x); };
    Index k = 0;
    for (; k + 16 <= count; k += 16) _mm256_storeu_si256((__m256i*)(to + k), rounded(_mm512_loadu_ps(from + k)));
    const __mmask16 rest = (1u << (count - k)) - 1;
    _mm256_mask_storeu_epi16(to + k, rest, rounded(_mm512_maskz_loadu_ps(rest, from + k)));
}

namespace {

template <typename Number>
void interleave_rows(Half* to, const Number* from, Index step, Index width, Index rows, Index padded) {
    for (Index row = 0; row < padded; row += 2, to += 2 * width)
        for (Index k = 0; k < width; k += 16) {
            const Number* at = from + row * step + k;
            _mm512_storeu_si512(to + 2 * k, pairs(row < rows ? at : nullptr, row + 1 < rows ? at + step : nullptr));
        }
}

template <typename Number>
void transpose_rows(Half* to, Index to_step, const Number* from, Index step, Index rows, Index columns, Index padded) {
    for (Index column = 0; column < columns; column += 16)
        for (Index row = 0; row < padded; row += DEPTH) {
            __m512i v[16];
#pragma GCC unroll 16
            for (Index n = 0; n < 16; ++n) {
                const Index at = row + 2 * n;
                const Number* source = from + at * step + column;
                v[n] = pairs(at < rows ? source : nullptr, at + 1 < rows ? source + step : nullptr);
            }
            transpose_pairs(v);
#pragma GCC unroll 16
            for (Index n = 0; n < 16; ++n) _mm512_storeu_si512(to + (column + n) * to_step + row, v[n]);
        }
}

}  // namespace

void interleave(Half* to, const float* from, Index step, Index width, Index rows, Index padded) {
    interleave_rows(to, from, step, width, rows, padded);
}

void interleave(Half* to, const Half* from, Index step, Index width, Index rows, Index padded) {
    interleave_rows(to, from, step, width, rows, padded);
}

void transpose(Half* to, Index to_step, const float* from, Index step, Index rows, Index columns, Index padded) {
    transpose_rows(to, to_step, from, step, rows, columns, padded);
}

void transpose(Half* to, Index to_step, const Half* from, Index step, Index rows, Index columns, Index padded) {
    transpose_rows(to, to_step, from, step, rows, columns, padded);
}

}  // namespace pixelrnn::amx

#else

namespace pixelrnn::amx {

bool available() { return false; }
void multiply(float*, Index, Index, const Term*, Index, const Half*, Index, bool) {}
void round(Half*, const float*, Index, bool) {}
void interleave(Half*, const float*, Index, Index, Index, Index) {}
void interleave(Half*, const Half*, Index, Index, Index, Index) {}
void transpose(Half*, Index, const float*, Index, Index, Index, Index) {}
void transpose(Half*, Index, const Half*, Index, Index, Index, Index) {}

}  // namespace pixelrnn::amx

#endif
