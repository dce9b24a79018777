// What is computed from features one by one.

#pragma once

#include "scan/layers/layer.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// Features of one register, or of two. Sums are not rounded, as nothing is lost.
template <Kind kind>
INLINE Vec pointwise(const Arithmetic& arithmetic, Vec x, Vec other) {
    if constexpr (kind == Kind::add) {
        return x + other;
    } else if constexpr (kind == Kind::multiply) {
        return arithmetic.feature(x * other);
    } else if constexpr (kind == Kind::sigmoid) {
        return arithmetic.sigmoid(x);
    } else if constexpr (kind == Kind::tanh) {
        return arithmetic.tanh(x);
    } else {
        static_assert(kind == Kind::relu);
        return max_with_zero(x);
    }
}

// Computes the features of all colours each time: those of later colours are computed again when their turn comes.
template <Kind kind>
class Pointwise final : public Layer {
public:
    explicit Pointwise(const Instruction& i) : input_(i.inputs[0]), other_(i.other < 0 ? input_ : i.other), output_(i.output) {}
    void step(Part& part, Index) const override {
        const Register& output = part.registers[output_];
        const Real *x = part.registers[input_].at(0), *other = part.registers[other_].at(0);
        Real* to = output.at(0);
        const Arithmetic& arithmetic = *part.arithmetic;
        const Index count = part.size() * output.features;
        Index k = 0;
        for (; k + V <= count; k += V) store(to + k, pointwise<kind>(arithmetic, load(x + k), load(other + k)));
        if (const Index rest = count - k; rest > 0)
            store_first(to + k, pointwise<kind>(arithmetic, load_first(x + k, rest), load_first(other + k, rest)), rest);
        output.rectify(part.size());
    }

private:
    Index input_, other_, output_;
};

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
