// Convolutions whose factors are rounded to bfloat16, and multiplied by tile registers (amx.hpp).
//
// As a tile takes rows that overlap, the taps of a kernel row are one run of halves, and
// nothing is gathered. Runs end where a tile does: weights are zero where a run reads on, and so are the gradients of
// positions beyond the last.

#pragma once

#include <memory>
#include <vector>

#include "convolution_shape.hpp"
#include "halves.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// Maps in bfloat16 inside a frame of zeros, as `Framed`; and transposed, (row, feature, column), where they begin at column
// `side`, with zeros around them, too.
struct HalfFrame {
    Index height, width, features, top, bottom, side;
    Index line;     // halves of a row of the frame
    Index padded;   // features in the transposed one
    Index columns;  // the width, as a depth
    Index column;   // halves from feature to feature in the transposed one
    Halves data, transposed;

    HalfFrame(const Shape& shape, Index features, Index top, Index bottom)
        : height(shape.height), width(shape.width), features(features), top(top), bottom(bottom), side(shape.side),
          line((width + 2 * side) * features), padded(round_up(features, amx::ROWS)), columns(round_up(width, amx::DEPTH)),
          column(round_up(columns + 2 * side, amx::DEPTH)) {
        const Index rows = height + top + bottom;
        // After the last row, 15 positions that fill a tile are read, and the 31 halves that fill the depth of a run.
        data = zeros(rows * line + amx::ROWS * features + amx::DEPTH);
    }
    bool is_of(const Shape& shape, Index of_features, Index at_top, Index at_bottom) const {
        return shape.height == height && shape.width == width && shape.side == side && of_features == features && at_top == top &&
               at_bottom == bottom;
    }
    amx::Half* row(Index r) const { return data.get() + r * line; }

    void fill(const float* map, Index count, bool rectify) {
        for (Index r = 0; r < height; ++r)
            amx::round(row(top + r) + side * features, map + r * count * features, count * features, rectify);
    }
    void transpose(Index count) {
        if (transposed == nullptr) transposed = zeros((top + height) * padded * column);
        for (Index r = top; r < top + height; ++r)
            amx::transpose(transposed.get() + r * padded * column + side, column, row(r) + side * features, features, count, padded, columns);
    }

private:
    static Halves zeros(Index size) {
        Halves halves = allocate_halves(size);
        std::fill(halves.get(), halves.get() + size, amx::Half{0});
        return halves;
    }
};

// The buffers of a task.
class HalfRoom {
public:
    std::vector<amx::Term> terms;

    // Of an input, and of the gradient of an output: lines of the same geometry share them, one after the other.
    HalfFrame& input(const Shape& shape, Index features) { return of(inputs_, shape, features, shape.above, 0); }
    HalfFrame& gradient(const Shape& shape, Index outputs) { return of(gradients_, shape, outputs, 0, shape.above); }
    float* sums(Index size) {
        if (size > sums_size_) sums_ = allocate(sums_size_ = size);
        return sums_.get();
    }
    amx::Half* panels(Index size) {
        if (size > panels_size_) panels_ = allocate_halves(panels_size_ = size);
        return panels_.get();
    }

private:
    using HalfFrames = std::vector<std::unique_ptr<HalfFrame>>;
    static HalfFrame& of(HalfFrames& frames, const Shape& shape, Index features, Index top, Index bottom) {
        for (const auto& frame : frames)
            if (frame->is_of(shape, features, top, bottom)) return *frame;
        return *frames.emplace_back(std::make_unique<HalfFrame>(shape, features, top, bottom));
    }

    HalfFrames inputs_, gradients_;
    Buffer sums_;
    Halves panels_;
    Index sums_size_ = 0, panels_size_ = 0;
};

// A right matrix for runs of rows of a frame, each a number of taps; value(k, n) counts on through the runs.
struct HalfRight {
    std::vector<Index> runs, depths;
    Index width;
    Halves data;

    template <typename Value>
    HalfRight(std::vector<Index> of_runs, Index outputs, Value value) : runs(std::move(of_runs)), width(round_up(outputs, amx::COLUMNS)) {
        Index total = 0, k = 0;
        for (const Index run : runs) total += depths.emplace_back(round_up(run, amx::DEPTH));
        data = allocate_halves(total * width);
        amx::Half* to = data.get();
        for (std::size_t n = 0; n < runs.size(); to += depths[n++] * width) {
            const Buffer rows = allocate(runs[n] * width);
            for (Index at = 0; at < runs[n]; ++at, ++k)
                for (Index m = 0; m < width; ++m) rows[at * width + m] = m < outputs ? value(k, m) : 0.0f;
            amx::interleave(to, rows.get(), width, width, runs[n], depths[n]);
        }
    }
};

// Store end(sums, element, columns left) of rows of sums in vectors.
template <typename End>
INLINE void finish_rows(const float* sums, Index width, Index rows, Index columns, float* to, End end) {
    for (Index m = 0; m < rows; ++m, sums += width)
        for (Index n = 0; n < columns; n += V) {
            const Index element = m * columns + n;
            store_columns(to + element, end(load(sums + n), n, element, columns - n), columns - n);
        }
}

class HalfForward {
public:
    HalfForward(const Line& line, const Cut& cut)
        : line_(line), shape_(line, cut),
          right_(runs(line, shape_), line.outputs,
                 [&](Index k, Index n) { return line.weight[(n * line.features + k % line.features) * shape_.taps + k / line.features]; }),
          bias_(allocate(right_.width)) {
        std::fill(bias_.get(), bias_.get() + right_.width, 0.0f);
        std::copy(line.bias, line.bias + line.outputs, bias_.get());
    }

    // `base` may be null, or `output`.
    void run(Index positions, HalfRoom& room, const float* from, const float* base, float* output) const {
        HalfFrame& frame = room.input(shape_, line_.features);
        const Index rows = round_up(shape_.width, amx::ROWS);
        float* sums = room.sums(rows * right_.width);
        shape_.panes(positions, [&](Index first, Index columns) {
            frame.fill(from + first * line_.features, columns, line_.rectify);
            for (Index r = 0; r < shape_.height; ++r) {
                room.terms.clear();
                for (Index row = 0; row <= shape_.above; ++row)
                    room.terms.push_back({frame.row(r + row), line_.features, right_.depths[row]});
                amx::multiply(sums, right_.width, round_up(columns, amx::ROWS), room.terms.data(), shape_.above + 1, right_.data.get(),
                              right_.width, false);
                const Index at = (first + r * shape_.width) * line_.outputs;
                finish_rows(sums, right_.width, columns, line_.outputs, output + at, [&](Vec sum, Index n, Index element, Index left) {
                    sum += load(bias_.get() + n);
                    return base == nullptr ? sum : sum + load_columns(base + at + element, left);
                });
            }
        });
    }

private:
    static std::vector<Index> runs(const Line& line, const Shape& shape) {
        std::vector<Index> found;
        for (Index row = 0; row <= shape.above; ++row) found.push_back(shape.open(row) * line.features);
        return found;
    }

    const Line& line_;
    Shape shape_;
    HalfRight right_;
    Buffer bias_;
};

// Gradients of the same. A task adds up those of weight and bias, as [tap][feature, padded][output, padded], then the bias.
class HalfBackward {
public:
    HalfBackward(const Line& line, const Cut& cut)
        : line_(line), shape_(line, cut), padded_(round_up(line.features, amx::ROWS)), width_(round_up(line.outputs, amx::COLUMNS)),
          right_(runs(line, shape_), line.features, [&](Index k, Index n) {
              const Index o = k % line.outputs;
              return line.weight[(o * line.features + n) * shape_.taps + shape_.seen_by(k / line.outputs)];
          }) {}
    Index sums_size() const { return (shape_.taps * padded_ + 1) * width_; }

    // As `Backward`.
    void run(Index positions, HalfRoom& room, const float* from, const float* d_output, const float* base, float* d_x, float* sums) const {
        HalfFrame &x = room.input(shape_, line_.features), &d = room.gradient(shape_, line_.outputs);
        shape_.panes(positions, [&](Index first, Index columns) {
            const float* map = from + first * line_.features;
            d.fill(d_output + first * line_.outputs, columns, false);
            if (d_x != nullptr) {
                const float* added = base == nullptr ? nullptr : base + first * line_.features;
                for (Index r = 0; r < shape_.height; ++r) inputs(room, d, r, columns, map, added, d_x + first * line_.features);
            }
            weights(room, x, d, columns, map, sums);
            float* bias = sums + shape_.taps * padded_ * width_;
            const float* from_output = d_output + first * line_.outputs;
            for (Index m = 0; m < shape_.height * columns; ++m, from_output += line_.outputs) add_row(bias, from_output, line_.outputs);
        });
    }

    // Write gradients of weight and bias.
    void unpack(const float* sums, float* d_weight, float* d_bias) const {
        for (Index n = 0; n < line_.outputs; ++n)
            for (Index f = 0; f < line_.features; ++f)
                for (Index tap = 0; tap < shape_.taps; ++tap) *d_weight++ = sums[(tap * padded_ + f) * width_ + n];
        std::copy_n(sums + shape_.taps * padded_ * width_, line_.outputs, d_bias);
    }

private:
    // From the row of an input down: what is right of it, and then whole rows.
    static std::vector<Index> runs(const Line& line, const Shape& shape) {
        std::vector<Index> found(static_cast<std::size_t>(shape.above + 1), shape.span * line.outputs);
        found[0] = (shape.side + 1) * line.outputs;
        return found;
    }

    void inputs(HalfRoom& room, const HalfFrame& d, Index r, Index columns, const float* map, const float* base, float* d_x) const {
        room.terms.clear();
        for (Index below = 0; below <= shape_.above; ++below)
            room.terms.push_back({d.row(r + below) + (below == 0 ? shape_.side * line_.outputs : 0), line_.outputs, right_.depths[below]});
        float* sums = room.sums(round_up(shape_.width, amx::ROWS) * right_.width);
        amx::multiply(sums, right_.width, round_up(columns, amx::ROWS), room.terms.data(), shape_.above + 1, right_.data.get(), right_.width,
                      false);
        const Index at = r * shape_.width * line_.features;
        finish_rows(sums, right_.width, columns, line_.features, d_x + at, [&](Vec sum, Index, Index element, Index left) {
            if (line_.rectify) sum = load_columns(map + at + element, left) > Vec{} ? sum : Vec{};
            return base == nullptr ? sum : sum + load_columns(base + at + element, left);
        });
    }

    // The depth of these products are positions: rows of the transposed map meet gradients whose rows are interleaved.
    void weights(HalfRoom& room, HalfFrame& x, const HalfFrame& d, Index columns, const float* map, float* sums) const {
        x.fill(map, columns, line_.rectify);
        x.transpose(columns);
        amx::Half* panels = room.panels(shape_.height * x.columns * width_);
        for (Index r = 0; r < shape_.height; ++r)
            amx::interleave(panels + r * x.columns * width_, d.row(r) + shape_.side * line_.outputs, line_.outputs, width_, columns, x.columns);
        for (Index tap = 0; tap < shape_.taps; ++tap) {
            room.terms.clear();
            const Index row = tap / shape_.span, col = tap % shape_.span;
            for (Index r = 0; r < shape_.height; ++r)
                room.terms.push_back({x.transposed.get() + (r + row) * padded_ * x.column + col, x.column, x.columns});
            amx::multiply(sums + tap * padded_ * width_, width_, padded_, room.terms.data(), shape_.height, panels, width_, true);
        }
    }

    const Line& line_;
    Shape shape_;
    Index padded_, width_;
    HalfRight right_;
};

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
