// What moves features, and computes nothing.

#pragma once

#include "scan/layers/layer.hpp"
#include "scan/ring.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// Features that are given at each position. Their maps are kept with the state of an image, so that particles take theirs
// along.
class Conditioning final : public Layer {
public:
    Conditioning(const Instruction& i, Layout& layout)
        : output_(i.output), maps_(layout, layout.size.height, layout.size.width, i.outputs), slot_(maps_.view(layout.views, 0, 0)) {}
    void begin(Part& part) const override {
        for (Index b = 0; b < part.images; ++b)
            copy_row(maps_.data(part, b), part.conditioning + (part.first + b) * maps_.size(), maps_.size());
    }
    void step(Part& part, Index colour) const override {
        if (colour > 0) return;
        const Register& output = part.registers[output_];
        maps_.each(part, slot_, [&](Index m, const Real* slot) { copy_row(output.at(m), slot, output.features); });
        output.rectify(part.size());
    }

private:
    Index output_;
    Ring maps_;
    Index slot_;
};

// The features of a register, and after them those of another.
class Concatenate final : public Layer {
public:
    explicit Concatenate(const Instruction& i) : first_(i.inputs[0]), second_(i.other), output_(i.output) {}
    void step(Part& part, Index) const override {
        const Register &first = part.registers[first_], &second = part.registers[second_], &output = part.registers[output_];
        for (Index m = 0; m < part.size(); ++m) {
            copy_row(output.at(m), first.at(m), first.features);
            copy_row(output.at(m) + first.features, second.at(m), second.features);
        }
        output.rectify(part.size());
    }

private:
    Index first_, second_, output_;
};

// Some features of a register, which follow each other.
class Select final : public Layer {
public:
    explicit Select(const Instruction& i) : input_(i.inputs[0]), output_(i.output), first_(i.above) {}
    void step(Part& part, Index) const override {
        const Register &input = part.registers[input_], &output = part.registers[output_];
        for (Index m = 0; m < part.size(); ++m) copy_row(output.at(m), input.at(m) + first_, output.features);
        output.rectify(part.size());
    }

private:
    Index input_, output_, first_;
};

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
