// Convolutions: of the image, of what was seen of a map, and of single positions.

#pragma once

#include "scan/colours.hpp"
#include "scan/layers/layer.hpp"
#include "scan/ring.hpp"
#include "scan/weights.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// What all of them end with: features of a colour in the output register, to which those of another register are added.
class TapProduct {
public:
    TapProduct(const Instruction& i, Index colours, const std::vector<Index>& terms, Index features, Index taps)
        : output_(i.output), other_(i.other), groups_(i.outputs, colours),
          weights_(terms, columns_of(i.tensors[0], features, taps), groups_.by_colour(), i.tensors[1]) {}

    Room room(Index gathered = 0) const { return {gathered, weights_.terms(), round_up(groups_.features, V)}; }
    // `left` are the rows of the terms.
    void run(Part& part, Index colour, const Real* const* left) const {
        const Register* other = other_ < 0 ? nullptr : &part.registers[other_];
        const Target target(part.registers[output_], other, groups_.first(colour), groups_.count(colour));
        weights_.run(colour, part.size(), left, target, part);
    }

private:
    static std::vector<Column> columns_of(const Real* weight, Index features, Index taps) {
        std::vector<Column> columns;
        append_taps(columns, weight, features, taps);
        return columns;
    }

    Index output_, other_;
    ColourGroups groups_;
    Weights weights_;
};

// Of the taps of a kernel up to its centre. Those of a row of the kernel lie side by side.
struct Kernel {
    Index above, side;

    explicit Kernel(const Instruction& i) : above(i.above), side(i.side) {}
    Index width() const { return 2 * side + 1; }
    Index taps() const { return above * width() + side + 1; }
    // Numbers of each row.
    std::vector<Index> rows(Index features) const {
        std::vector<Index> numbers(above, width() * features);
        numbers.push_back((side + 1) * features);
        return numbers;
    }
};

// The first layer: it reads symbols, and encodes them.
class FirstConvolution final : public Layer {
public:
    FirstConvolution(const Instruction& i, const Layout& layout)
        : kernel_(i), depth_(kernel_.taps() * i.features), product_(i, layout.colours, {depth_}, i.features, kernel_.taps()) {}

    Room room() const override { return product_.room(depth_); }
    void step(Part& part, Index colour) const override {
        part.each([&](const Visit& visit) {
            Real* taps = part.gathered.get() + visit.m * depth_;
            part.terms[visit.m] = taps;
            gather(part, visit, taps);
        });
        product_.run(part, colour, part.terms.data());
    }

private:
    // Outside the image there is zero.
    void gather(const Part& part, const Visit& visit, Real* taps) const {
        const Arithmetic& arithmetic = *part.arithmetic;
        const Index area = part.height * part.width;
        std::fill(taps, taps + depth_, Real{});
        const std::int64_t* image = part.symbols + (part.first + visit.b) * part.colours * area;
        const Index start = visit.col - kernel_.side, begin = std::max<Index>(0, start);
        for (Index r = std::max<Index>(0, kernel_.above - visit.row); r <= kernel_.above; ++r) {
            const Index end = std::min(part.width, visit.col + (r < kernel_.above ? kernel_.side : 0) + 1);
            const std::int64_t* __restrict symbols = image + (visit.row - kernel_.above + r) * part.width;
            Real* __restrict to = taps + (r * kernel_.width() + begin - start) * part.colours;
            for (Index col = begin; col < end; ++col)
                for (Index colour = 0; colour < part.colours; ++colour) *to++ = arithmetic.encode(symbols[colour * area + col]);
        }
    }

    Kernel kernel_;
    Index depth_;
    TapProduct product_;
};

// It remembers the rows that its kernel reaches.
class Convolution final : public Layer {
public:
    Convolution(const Instruction& i, Layout& layout)
        : input_(i.inputs[0]), rectify_(i.rectify), features_(i.features), kernel_(i),
          seen_(layout, layout.in_flight() + i.above, layout.size.width, i.features, i.side, i.side),
          slot_(seen_.view(layout.views, 0, 0)),
          product_(i, layout.colours, kernel_.rows(i.features), i.features, kernel_.taps()) {
        for (Index above = i.above; above >= 0; --above) kernel_rows_.push_back(seen_.view(layout.views, above, -i.side));
    }
    Room room() const override { return product_.room(); }
    void begin(Part& part) const override { seen_.fill(part, nullptr); }
    void step(Part& part, Index colour) const override {
        const Real* const* x = part.registers[input_].rows_of(rectify_);
        seen_.each(part, slot_, [&](Index m, Real* slot) { copy_row(slot, x[m], features_); });
        const Real** to = part.terms.data();
        for (const Index row : kernel_rows_) {
            seen_.each(part, row, [&](Index m, const Real* taps) { to[m] = taps; });
            to += part.size();
        }
        product_.run(part, colour, part.terms.data());
    }

private:
    Index input_;
    bool rectify_;
    Index features_;
    Kernel kernel_;
    Ring seen_;
    Index slot_;
    std::vector<Index> kernel_rows_;  // views
    TapProduct product_;
};

// A 1 × 1 convolution of the features of one register, or of several.
class PointConvolution final : public Layer {
public:
    PointConvolution(const Instruction& i, const Layout& layout)
        : inputs_(i.inputs), rectify_(i.rectify),
          product_(i, layout.colours, std::vector<Index>(i.inputs.size(), i.features), i.features * static_cast<Index>(i.inputs.size()), 1) {}

    Room room() const override { return product_.room(); }
    void step(Part& part, Index colour) const override {
        if (inputs_.size() == 1) {
            product_.run(part, colour, part.registers[inputs_[0]].rows_of(rectify_));
            return;
        }
        const Real** to = part.terms.data();
        for (const Index input : inputs_) to = std::copy_n(part.registers[input].rows_of(rectify_), part.size(), to);
        product_.run(part, colour, part.terms.data());
    }

private:
    std::vector<Index> inputs_;
    bool rectify_;
    TapProduct product_;
};

inline std::unique_ptr<Layer> make_convolution(const Instruction& i, Layout& layout) {
    if (i.kind == Kind::first) return std::make_unique<FirstConvolution>(i, layout);
    if (Kernel(i).taps() > 1) return std::make_unique<Convolution>(i, layout);
    return std::make_unique<PointConvolution>(i, layout);
}

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
