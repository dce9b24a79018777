// The layers of a scan.

#pragma once

#include "scan_part.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

class Convolve final : public Step {
public:
    Convolve(const Instruction& i, Layout& layout, Index at)
        : i_(i), groups_{i.outputs, layout.colours}, span_(2 * i.side + 1), taps_(i.above * span_ + i.side + 1),
          input_(layout.in_flight() + i.above, layout.size.width, i.features, i.side, i.side, at),
          weights_(terms_of(), columns_of(), groups_.features_of(), i.tensors[1]) {
        if (!remembers()) return;
        size = input_.size;
        here_ = input_.view(layout.views, 0, 0);
        for (Index r = 0; r <= i.above; ++r) views_.push_back(input_.view(layout.views, i.above - r, -i.side));
    }
    Index left_size() const override { return i_.layer == Layer::first ? taps_ * i_.features : 0; }
    Index terms() const override { return static_cast<Index>(weights_.terms.size()); }
    Index columns() const override { return round_up(i_.outputs, V); }
    void begin(Part& part) const override {
        if (remembers())
            for (Index b = 0; b < part.images; ++b) input_.fill(part, b, nullptr);
    }
    void run(Part& part, Index colour) const override {
        const Real* const* from = part.from.data();
        if (i_.layer == Layer::first) {
            gather_symbols(part);
        } else if (remembers()) {
            look_back(part);
        } else {
            if (i_.inputs.size() == 1) {
                from = part.registers[i_.inputs[0]].rows_of(i_.rectify);
            } else {
                const Real** to = part.from.data();
                for (const Index input : i_.inputs) to = std::copy_n(part.registers[input].rows_of(i_.rectify), part.size(), to);
            }
        }
        const Register* other = i_.other < 0 ? nullptr : &part.registers[i_.other];
        const Target target(part.registers[i_.output], other, groups_.first(colour), groups_.count(colour));
        weights_.run(colour, part.size(), from, target, part);
    }

private:
    // Whether it keeps the rows that it has seen; the first layer finds them in the image.
    bool remembers() const { return i_.layer == Layer::convolve && taps_ > 1; }
    // Runs of numbers in a row of the left matrix: those of a row of the kernel lie side by side.
    std::vector<Index> terms_of() const {
        if (!remembers()) return std::vector<Index>(std::max<std::size_t>(1, i_.inputs.size()), taps_ * i_.features);
        std::vector<Index> found(i_.above, span_ * i_.features);
        found.push_back((i_.side + 1) * i_.features);
        return found;
    }
    std::vector<Column> columns_of() const {
        std::vector<Column> found;
        append_taps(found, i_.tensors[0], i_.features * std::max<Index>(1, static_cast<Index>(i_.inputs.size())), taps_);
        return found;
    }
    void look_back(Part& part) const {
        const Real* const* x = part.registers[i_.inputs[0]].rows_of(i_.rectify);
        input_.each(part, here_, [&](Index m, Real* cell) { copy_row(cell, x[m], i_.features); });
        const Real** from = part.from.data();
        for (const Index view : views_) {
            input_.each(part, view, [&](Index m, const Real* cell) { from[m] = cell; });
            from += part.size();
        }
    }
    // Symbols are encoded; outside the image there is zero.
    void gather_symbols(Part& part) const {
        const Arithmetic& arithmetic = *part.arithmetic;
        const Index area = part.height * part.width, depth = taps_ * i_.features;
        part.each([&](const Here& here) {
            Real* left = part.left.get() + here.m * depth;
            part.from[here.m] = left;
            std::fill(left, left + depth, Real{});
            const std::int64_t* image = part.symbols + (part.first + here.b) * part.colours * area;
            const Index start = here.col - i_.side, begin = std::max<Index>(0, start);
            for (Index r = std::max<Index>(0, i_.above - here.row); r <= i_.above; ++r) {
                const Index end = std::min(part.width, here.col + (r < i_.above ? i_.side : 0) + 1);
                const std::int64_t* __restrict symbols = image + (here.row - i_.above + r) * part.width;
                Real* __restrict to = left + (r * span_ + begin - start) * part.colours;
                for (Index col = begin; col < end; ++col)
                    for (Index colour = 0; colour < part.colours; ++colour)
                        *to++ = arithmetic.encode(symbols[colour * area + col]);
            }
        });
    }

    Instruction i_;
    Groups groups_;
    Index span_, taps_;
    Ring input_;
    Index here_ = 0;
    std::vector<Index> views_;  // of each row of the kernel
    Weights weights_;
};

constexpr Index GATES = 4;

// The rows of weights (gate · h + feature) of each colour, as [vector of features][gate][lane].
std::vector<std::vector<Index>> gates_of(const Groups& groups) {
    std::vector<std::vector<Index>> found(groups.colours);
    for (Index c = 0; c < groups.colours; ++c)
        for (Index k = 0; k < groups.count(c); k += V)
            for (Index gate = 0; gate < GATES; ++gate)
                for (Index f = k; f < k + V; ++f) found[c].push_back(f < groups.count(c) ? gate * groups.features + groups.first(c) + f : -1);
    return found;
}

// Cells from their gates, of lines of so many numbers: c' = f ⊙ c + i ⊙ g and h' = o ⊙ tanh(c') for some features. Where c
// comes from, where h' and c' go to and what is added to the output, if anything is, are in the part; `target` may be null.
// Gates are lost.
INLINE void cells(const Part& part, Index rows, Real* gates, Index line, Index count, const Target* target, bool adds) {
    const Arithmetic& arithmetic = *part.arithmetic;
    const auto gate = [&](const Real* sums) __attribute__((always_inline)) { return arithmetic.rounded(load(sums)); };
    // In two passes, as each is a chain of operations that wait for each other: the rows of a pass do not.
    for (Index m = 0; m < rows; ++m)
        for (Index k = 0; k < count; k += V) {
            Real* own = gates + m * line + k * GATES;
            const Index rest = count - k;
            const Vec f = arithmetic.sigmoid(gate(own + V)), i = arithmetic.sigmoid(gate(own + 2 * V)), g = arithmetic.tanh(gate(own + 3 * V));
            const Vec next = arithmetic.state(f * load_columns(part.c_from[m] + k, rest) + i * g);
            store(own + V, next);
            store_columns(part.c_to[m] + k, next, rest);
        }
    for (Index m = 0; m < rows; ++m)
        for (Index k = 0; k < count; k += V) {
            const Real* own = gates + m * line + k * GATES;
            const Index rest = count - k;
            const Vec h = arithmetic.rounded(arithmetic.sigmoid(gate(own)) * arithmetic.tanh(load(own + V)));
            store_columns(part.h_to[m] + k, h, rest);
            if (target != nullptr) target->put(m, k, adds ? h + load_columns(part.added[m] + k, rest) : h);
        }
}

class RowLSTM final : public Step {
public:
    RowLSTM(const Instruction& i, Layout& layout, Index at)
        : i_(i), h_(i.outputs), neighbours_(2 * i.side + 1), groups_{h_, layout.colours},
          input_(layout.in_flight(), layout.size.width, i.features, i.side, 0, at),
          hidden_(layout.in_flight() + 1, layout.size.width, h_, i.side, i.side, at + input_.size),
          cell_(layout.in_flight() + 1, layout.size.width, h_, 0, 0, hidden_.at + hidden_.size),
          input_here_(input_.view(layout.views, 0, 0)), input_seen_(input_.view(layout.views, 0, -i.side)),
          hidden_here_(hidden_.view(layout.views, 0, 0)), hidden_seen_(hidden_.view(layout.views, 1, -i.side)),
          cell_here_(cell_.view(layout.views, 0, 0)), cell_seen_(cell_.view(layout.views, 1, 0)),
          hidden_init_(i.tensors[3], i.tensors[3] + h_), cell_init_(i.tensors[4], i.tensors[4] + h_),
          weights_({(i.side + 1) * i.features, neighbours_ * h_}, columns_of(), gates_of(groups_), i.tensors[1]) {
        size = input_.size + hidden_.size + cell_.size;
    }
    Index terms() const override { return 2; }
    Index columns() const override { return round_up(h_, V) * GATES; }
    void begin(Part& part) const override {
        for (Index b = 0; b < part.images; ++b) {
            input_.fill(part, b, nullptr);
            hidden_.fill(part, b, hidden_init_.data());
            cell_.fill(part, b, cell_init_.data());
        }
    }
    void run(Part& part, Index colour) const override {
        const Index first = groups_.first(colour), rows = part.size();
        const Register& x = part.registers[i_.inputs[0]];
        input_.each(part, input_here_, [&](Index m, Real* cell) { copy_row(cell, x.at(m), i_.features); });
        input_.each(part, input_seen_, [&](Index m, Real* cell) { part.from[m] = cell; });
        hidden_.each(part, hidden_seen_, [&](Index m, Real* cell) { part.from[rows + m] = cell; });
        hidden_.each(part, hidden_here_, [&](Index m, Real* cell) { part.h_to[m] = cell + first; });
        cell_.each(part, cell_seen_, [&](Index m, Real* cell) { part.c_from[m] = cell + first; });
        cell_.each(part, cell_here_, [&](Index m, Real* cell) { part.c_to[m] = cell + first; });
        const Index line = weights_.padded(colour);
        weights_.run(colour, rows, part.from.data(), {part.sums.get(), line}, part);
        const Target target(part.registers[i_.output], nullptr, first, groups_.count(colour));
        cells(part, rows, part.sums.get(), line, groups_.count(colour), &target, false);
    }

private:
    std::vector<Column> columns_of() const {
        std::vector<Column> found;
        append_taps(found, i_.tensors[0], i_.features, i_.side + 1);
        append_taps(found, i_.tensors[2], h_, neighbours_);
        return found;
    }

    Instruction i_;
    Index h_, neighbours_;
    Groups groups_;
    Ring input_, hidden_, cell_;
    Index input_here_, input_seen_, hidden_here_, hidden_seen_, cell_here_, cell_seen_;
    std::vector<Real> hidden_init_, cell_init_;
    Weights weights_;
};

// The direction from the left goes along with the scan; the other one runs over a row when the row is complete, and is
// seen from the row below.
class DiagonalLSTM final : public Step {
public:
    DiagonalLSTM(const Instruction& i, Layout& layout, Index at)
        : i_(i), h_(i.outputs), width_(layout.size.width), groups_{h_, layout.colours}, whole_{h_, 1},
          input_(1, width_, i.features, 0, 0, at), left_(2, width_, h_, 1, 0, input_.at + input_.size),
          left_cell_(1, width_, h_, 1, 0, left_.at + left_.size), right_(2, width_, h_, 0, 1, left_cell_.at + left_cell_.size),
          right_cell_(1, 1, h_, 0, 0, right_.at + right_.size), input_here_(input_.view(layout.views, 0, 0)),
          left_here_(left_.view(layout.views, 0, 0)), left_above_(left_.view(layout.views, 1, 0)),
          left_beside_(left_.view(layout.views, 0, -1)), cell_here_(left_cell_.view(layout.views, 0, 0)),
          cell_beside_(left_cell_.view(layout.views, 0, -1)), right_above_(right_.view(layout.views, 1, 0)),
          inits_{{i.tensors[3], i.tensors[3] + 2 * h_}, {i.tensors[4], i.tensors[4] + 2 * h_}},
          weights_({i.features, h_, h_}, columns_of(0, true, true), gates_of(groups_), i.tensors[1]),
          above_weights_({i.features, h_}, columns_of(1, true, false), gates_of(whole_), i.tensors[1] + GATES * h_),
          beside_weights_({h_}, columns_of(1, false, true), gates_of(whole_), nullptr) {
        size = right_cell_.at + right_cell_.size - at;
    }
    Index terms() const override { return 3; }
    Index columns() const override { return round_up(h_, V) * GATES; }
    void begin(Part& part) const override {
        for (Index b = 0; b < part.images; ++b) {
            left_.fill(part, b, inits_[0].data());
            left_cell_.fill(part, b, inits_[1].data());
            right_.fill(part, b, inits_[0].data() + h_);
        }
    }
    void run(Part& part, Index colour) const override {
        const Index first = groups_.first(colour), rows = part.size();
        const Register& x = part.registers[i_.inputs[0]];
        std::copy(x.rows.begin(), x.rows.begin() + rows, part.from.begin());
        input_.each(part, input_here_, [&](Index m, Real* cell) { copy_row(cell, x.at(m), i_.features); });
        left_.each(part, left_above_, [&](Index m, Real* cell) { part.from[rows + m] = cell; });
        left_.each(part, left_beside_, [&](Index m, Real* cell) { part.from[2 * rows + m] = cell; });
        left_.each(part, left_here_, [&](Index m, Real* cell) { part.h_to[m] = cell + first; });
        left_cell_.each(part, cell_beside_, [&](Index m, Real* cell) { part.c_from[m] = cell + first; });
        left_cell_.each(part, cell_here_, [&](Index m, Real* cell) { part.c_to[m] = cell + first; });
        right_.each(part, right_above_, [&](Index m, Real* cell) { part.added[m] = cell + first; });
        const Index line = weights_.padded(colour);
        weights_.run(colour, rows, part.from.data(), {part.sums.get(), line}, part);
        const Target target(part.registers[i_.output], nullptr, first, groups_.count(colour));
        cells(part, rows, part.sums.get(), line, groups_.count(colour), &target, true);
    }
    // What x and the row above add to the gates of the right-to-left row is one product; then cells go from column to column.
    void finish_row(Part& part, Index row) const override {
        const Index images = part.images, rows = width_ * images, line = above_weights_.padded(0);
        const Buffer gates = allocate(rows * line);
        for (Index col = 0; col < width_; ++col)
            for (Index b = 0; b < images; ++b) {
                part.from[col * images + b] = input_.cell(part, b, 0, col);
                part.from[rows + col * images + b] = right_.cell(part, b, row - 1, col);
            }
        above_weights_.run(0, rows, part.from.data(), {gates.get(), line}, part);
        for (Index b = 0; b < images; ++b) copy_row(right_cell_.cell(part, b, 0, 0), inits_[1].data() + h_, h_);
        for (Index col = width_; col-- > 0;) {
            for (Index b = 0; b < images; ++b) {
                part.from[b] = right_.cell(part, b, row, col + 1);
                part.c_from[b] = part.c_to[b] = right_cell_.cell(part, b, 0, 0);
                part.h_to[b] = right_.cell(part, b, row, col);
            }
            beside_weights_.run(0, images, part.from.data(), {part.sums.get(), line}, part);
            Real* own = gates.get() + col * images * line;
            add_row(own, part.sums.get(), images * line);
            cells(part, images, own, line, h_, nullptr, false);
        }
    }

private:
    // Of a direction: x and the state above, the state beside, or all three.
    std::vector<Column> columns_of(Index direction, bool above, bool beside) const {
        std::vector<Column> all;
        append_taps(all, i_.tensors[0] + direction * GATES * h_ * i_.features, i_.features, 1);
        append_taps(all, i_.tensors[2] + direction * GATES * h_ * h_ * 2, h_, 2);
        return {above ? all.begin() : all.end() - h_, beside ? all.end() : all.end() - h_};
    }

    Instruction i_;
    Index h_, width_;
    Groups groups_, whole_;
    Ring input_, left_, left_cell_, right_, right_cell_;
    Index input_here_, left_here_, left_above_, left_beside_, cell_here_, cell_beside_, right_above_;
    std::vector<Real> inits_[2];
    Weights weights_, above_weights_, beside_weights_;
};

// What a pointwise instruction computes from features of one register, or of two. Sums are not rounded, as nothing is lost.
template <Layer operation>
INLINE Vec pointwise(const Arithmetic& arithmetic, Vec x, Vec other) {
    if constexpr (operation == Layer::add) {
        return x + other;
    } else if constexpr (operation == Layer::multiply) {
        return arithmetic.feature(x * other);
    } else if constexpr (operation == Layer::sigmoid) {
        return arithmetic.sigmoid(x);
    } else if constexpr (operation == Layer::tanh) {
        return arithmetic.tanh(x);
    } else {
        static_assert(operation == Layer::relu);
        return max_with_zero(x);
    }
}

// Computes the features of all colours each time: those of later colours are computed again when their turn comes.
template <Layer operation>
class Pointwise final : public Step {
public:
    explicit Pointwise(const Instruction& i) : i_(i) {}
    void run(Part& part, Index) const override {
        const Register &input = part.registers[i_.inputs[0]], &output = part.registers[i_.output];
        const Real *x = input.at(0), *other = i_.other < 0 ? x : part.registers[i_.other].at(0);
        Real* to = output.at(0);
        const Index count = part.size() * i_.features;
        const Arithmetic& arithmetic = *part.arithmetic;
        Index k = 0;
        for (; k + V <= count; k += V) store(to + k, pointwise<operation>(arithmetic, load(x + k), load(other + k)));
        if (const Index rest = count - k; rest > 0)
            store_first(to + k, pointwise<operation>(arithmetic, load_first(x + k, rest), load_first(other + k, rest)), rest);
        output.rectify(part.size());
    }

private:
    Instruction i_;
};

// What is given at each position. Its maps are kept with the state of an image, so that particles take theirs along.
class Conditioning final : public Step {
public:
    Conditioning(const Instruction& i, Layout& layout, Index at)
        : i_(i), maps_(layout.size.height, layout.size.width, i.outputs, 0, 0, at), here_(maps_.view(layout.views, 0, 0)) {
        size = maps_.size;
    }
    void begin(Part& part) const override {
        for (Index b = 0; b < part.images; ++b)
            copy_row(part.of_image(b) + maps_.at, part.conditioning + (part.first + b) * maps_.size, maps_.size);
    }
    void run(Part& part, Index colour) const override {
        if (colour > 0) return;
        const Register& output = part.registers[i_.output];
        maps_.each(part, here_, [&](Index m, const Real* cell) { copy_row(output.at(m), cell, i_.outputs); });
        output.rectify(part.size());
    }

private:
    Instruction i_;
    Ring maps_;
    Index here_;
};

// The features of a register, and after them those of another.
class Concatenate final : public Step {
public:
    explicit Concatenate(const Instruction& i) : i_(i) {}
    void run(Part& part, Index) const override {
        const Register &first = part.registers[i_.inputs[0]], &second = part.registers[i_.other], &output = part.registers[i_.output];
        for (Index m = 0; m < part.size(); ++m) {
            copy_row(output.at(m), first.at(m), first.features);
            copy_row(output.at(m) + first.features, second.at(m), second.features);
        }
        output.rectify(part.size());
    }

private:
    Instruction i_;
};

// Some features of a register, which follow each other.
class Select final : public Step {
public:
    explicit Select(const Instruction& i) : i_(i) {}
    void run(Part& part, Index) const override {
        const Register &input = part.registers[i_.inputs[0]], &output = part.registers[i_.output];
        for (Index m = 0; m < part.size(); ++m) copy_row(output.at(m), input.at(m) + i_.above, i_.outputs);
        output.rectify(part.size());
    }

private:
    Instruction i_;
};

// A layer whose state begins at a place in that of an image.
inline std::unique_ptr<Step> make_step(const Instruction& i, Layout& layout, Index at) {
    switch (i.layer) {
        case Layer::row_lstm: return std::make_unique<RowLSTM>(i, layout, at);
        case Layer::diagonal_lstm: return std::make_unique<DiagonalLSTM>(i, layout, at);
        case Layer::conditioning: return std::make_unique<Conditioning>(i, layout, at);
        case Layer::add: return std::make_unique<Pointwise<Layer::add>>(i);
        case Layer::multiply: return std::make_unique<Pointwise<Layer::multiply>>(i);
        case Layer::sigmoid: return std::make_unique<Pointwise<Layer::sigmoid>>(i);
        case Layer::tanh: return std::make_unique<Pointwise<Layer::tanh>>(i);
        case Layer::relu: return std::make_unique<Pointwise<Layer::relu>>(i);
        case Layer::concatenate: return std::make_unique<Concatenate>(i);
        case Layer::select: return std::make_unique<Select>(i);
        default: return std::make_unique<Convolve>(i, layout, at);
    }
}

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
