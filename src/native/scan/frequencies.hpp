// Frequencies of symbols, as the entropy decoder takes them.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "scan/arithmetic.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// From outputs that are integers, as codec/frequencies.py computes them.
class Frequencies {
public:
    // Exponentials are those of codec/lookup.py: of 0, -1, …, as many as `count`.
    Frequencies(Index levels, const std::int64_t* exponentials, Index count)
        : levels_(levels), exponentials_(exponentials), last_(static_cast<Real>(count - 1)),
          frequencies_(static_cast<std::size_t>(levels)) {}

    const std::vector<std::int64_t>& of(const Real* outputs) {
        const auto logit = [&](Index k) { return levels_ > 2 ? outputs[k] : k == 0 ? Real(0) : outputs[0]; };
        Index likeliest = 0;
        for (Index k = 1; k < levels_; ++k)
            if (logit(k) > logit(likeliest)) likeliest = k;
        const Real highest = logit(likeliest);
        std::int64_t total = 0, left = std::int64_t{1} << RangeDecoder::PRECISION;
        for (Index k = 0; k < levels_; ++k)
            total += frequencies_[k] = exponentials_[static_cast<Index>(std::min(highest - logit(k), last_))];
        const std::int64_t shared = left - levels_;
        for (Index k = 0; k < levels_; ++k) left -= frequencies_[k] = 1 + frequencies_[k] * shared / total;
        frequencies_[likeliest] += left;
        return frequencies_;
    }

private:
    Index levels_;
    const std::int64_t* exponentials_;
    Real last_;
    std::vector<std::int64_t> frequencies_;
};

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
