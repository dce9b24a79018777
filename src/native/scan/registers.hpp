// Features of the positions that are visited, between the layers.

#pragma once

#include <vector>

#include "scan/arithmetic.hpp"
#include "product.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// Rows of features, one for each position and image. Layers behind a ReLU read max(0, x), of which there is a copy.
struct Register {
    Index features;
    Buffer data, positive;  // null: nobody reads it
    std::vector<const Real*> rows, positive_rows;

    Register(Index features, bool rectified) : features(features), rectified_(rectified) {}
    void reserve(Index count) {
        fill(count, data, rows);
        if (rectified_) fill(count, positive, positive_rows);
    }
    Real* at(Index m) const { return data.get() + m * features; }
    // Write max(0, x) of so many rows, if anybody reads it.
    void rectify(Index count) const {
        if (positive != nullptr) rectify_row(positive.get(), data.get(), count * features);
    }
    const Real* const* rows_of(bool rectified) const { return rectified ? positive_rows.data() : rows.data(); }

private:
    void fill(Index count, Buffer& buffer, std::vector<const Real*>& starts) const {
        buffer = allocate(count * features);
        std::fill(buffer.get(), buffer.get() + count * features, Real{});
        starts.clear();
        for (Index m = 0; m < count; ++m) starts.push_back(buffer.get() + m * features);
    }
    bool rectified_;
};

// Where the sums of a product go: features first … first + columns - 1 of a register, or rows of gates.
struct Target {
    Real *to, *positive;    // `positive` may be null
    const Real* base;       // what is added; null: nothing
    Index stride, columns;  // from row to row of all three; of a row
    bool rounds;            // whether sums become features, or go on as gates

    Target(const Register& output, const Register* other, Index first, Index columns)
        : to(output.at(0) + first), positive(output.positive == nullptr ? nullptr : output.positive.get() + first),
          base(other == nullptr ? nullptr : other->at(0) + first), stride(output.features), columns(columns), rounds(true) {}
    Target(Real* sums, Index columns)
        : to(sums), positive(nullptr), base(nullptr), stride(columns), columns(columns), rounds(false) {}

    // Write a vector of row m, to which `base` is added.
    INLINE void put(Index m, Index n, Vec feature) const {
        const Index element = m * stride + n, rest = columns - n;
        if (base != nullptr) feature += load_columns(base + element, rest);
        store_columns(to + element, feature, rest);
        if (positive != nullptr) store_columns(positive + element, max_with_zero(feature), rest);
    }
};

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
