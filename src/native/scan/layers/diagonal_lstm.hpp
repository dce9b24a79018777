// The Diagonal BiLSTM: states come from the columns on either side, and from the row above.

#pragma once

#include "scan/layers/layer.hpp"
#include "scan/layers/lstm_cells.hpp"
#include "scan/ring.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// The direction from the left goes along with the scan; the one from the right runs over a row when the row is complete, and
// is seen from the row below.
class DiagonalLSTM final : public Layer {
public:
    DiagonalLSTM(const Instruction& i, Layout& layout)
        : register_in_(i.inputs[0]), register_out_(i.output), features_(i.features), hidden_features_(i.outputs),
          width_(layout.size.width), groups_(i.outputs, layout.colours), input_(layout, 1, width_, i.features),
          left_(layout, 2, width_, i.outputs, 1), left_cell_(layout, 1, width_, i.outputs, 1),
          right_(layout, 2, width_, i.outputs, 0, 1), right_cell_(layout, 1, 1, i.outputs),
          input_slot_(input_.view(layout.views, 0, 0)), left_slot_(left_.view(layout.views, 0, 0)),
          left_above_(left_.view(layout.views, 1, 0)), left_before_(left_.view(layout.views, 0, -1)),
          left_cell_slot_(left_cell_.view(layout.views, 0, 0)), left_cell_before_(left_cell_.view(layout.views, 0, -1)),
          right_above_(right_.view(layout.views, 1, 0)), hidden_inits_(i.tensors[3], i.tensors[3] + 2 * i.outputs),
          cell_inits_(i.tensors[4], i.tensors[4] + 2 * i.outputs),
          left_weights_({i.features, i.outputs, i.outputs}, columns_of(i, 0), gate_rows(groups_), i.tensors[1]),
          right_weights_({i.features, i.outputs}, without_last(columns_of(i, 1), i.outputs), gate_rows({i.outputs, 1}),
                         i.tensors[1] + GATES * i.outputs),
          right_before_weights_({i.outputs}, last_of(columns_of(i, 1), i.outputs), gate_rows({i.outputs, 1}), nullptr) {}

    Room room() const override { return {0, left_weights_.terms(), round_up(hidden_features_, V) * GATES}; }
    void begin(Part& part) const override {
        left_.fill(part, hidden_inits_.data());
        left_cell_.fill(part, cell_inits_.data());
        right_.fill(part, hidden_inits_.data() + hidden_features_);
    }
    void step(Part& part, Index colour) const override {
        const Index first = groups_.first(colour), count = groups_.count(colour), rows = part.size();
        const Register& x = part.registers[register_in_];
        std::copy(x.rows.begin(), x.rows.begin() + rows, part.terms.begin());
        input_.each(part, input_slot_, [&](Index m, Real* slot) { copy_row(slot, x.at(m), features_); });
        left_.each(part, left_above_, [&](Index m, Real* slot) { part.terms[rows + m] = slot; });
        left_.each(part, left_before_, [&](Index m, Real* slot) { part.terms[2 * rows + m] = slot; });
        left_.each(part, left_slot_, [&](Index m, Real* slot) { part.hidden_to[m] = slot + first; });
        left_cell_.each(part, left_cell_before_, [&](Index m, Real* slot) { part.cell_from[m] = slot + first; });
        left_cell_.each(part, left_cell_slot_, [&](Index m, Real* slot) { part.cell_to[m] = slot + first; });
        right_.each(part, right_above_, [&](Index m, Real* slot) { part.added[m] = slot + first; });
        const Gates gates{part.sums.get(), left_weights_.padded(colour)};
        left_weights_.run(colour, rows, part.terms.data(), {gates.sums, gates.stride}, part);
        const Target target(part.registers[register_out_], nullptr, first, count);
        compute_cells(part, rows, gates, count, &target, true);
    }
    // What x and the row above add to the gates of the right-to-left row is one product; then cells go from column to column.
    void finish_row(Part& part, Index row) const override {
        const Index stride = right_weights_.padded(0);
        const Buffer sums = allocate(width_ * part.images * stride);
        add_up_row(part, row, {sums.get(), stride});
        for (Index b = 0; b < part.images; ++b)
            copy_row(right_cell_.slot(part, b, 0, 0), cell_inits_.data() + hidden_features_, hidden_features_);
        for (Index col = width_; col-- > 0;) step_left(part, row, col, {sums.get() + col * part.images * stride, stride});
    }

private:
    // Of a direction: x, the state above, and that of the column before.
    static std::vector<Column> columns_of(const Instruction& i, Index direction) {
        const Index h = i.outputs;
        std::vector<Column> columns;
        append_taps(columns, i.tensors[0] + direction * GATES * h * i.features, i.features, 1);
        append_taps(columns, i.tensors[2] + direction * GATES * h * h * 2, h, 2);
        return columns;
    }
    static std::vector<Column> without_last(const std::vector<Column>& columns, Index count) {
        return {columns.begin(), columns.end() - count};
    }
    static std::vector<Column> last_of(const std::vector<Column>& columns, Index count) {
        return {columns.end() - count, columns.end()};
    }

    void add_up_row(Part& part, Index row, const Gates& gates) const {
        const Index images = part.images, rows = width_ * images;
        for (Index col = 0; col < width_; ++col)
            for (Index b = 0; b < images; ++b) {
                part.terms[col * images + b] = input_.slot(part, b, 0, col);
                part.terms[rows + col * images + b] = right_.slot(part, b, row - 1, col);
            }
        right_weights_.run(0, rows, part.terms.data(), {gates.sums, gates.stride}, part);
    }
    // The cells of a column, from those of the column to the right.
    void step_left(Part& part, Index row, Index col, const Gates& gates) const {
        const Index images = part.images;
        for (Index b = 0; b < images; ++b) {
            part.terms[b] = right_.slot(part, b, row, col + 1);
            part.cell_from[b] = part.cell_to[b] = right_cell_.slot(part, b, 0, 0);
            part.hidden_to[b] = right_.slot(part, b, row, col);
        }
        right_before_weights_.run(0, images, part.terms.data(), {part.sums.get(), gates.stride}, part);
        add_row(gates.sums, part.sums.get(), images * gates.stride);
        compute_cells(part, images, gates, hidden_features_, nullptr, false);
    }

    Index register_in_, register_out_;
    Index features_, hidden_features_, width_;
    ColourGroups groups_;
    Ring input_, left_, left_cell_, right_, right_cell_;
    Index input_slot_, left_slot_, left_above_, left_before_, left_cell_slot_, left_cell_before_, right_above_;  // views
    std::vector<Real> hidden_inits_, cell_inits_;  // of both directions
    Weights left_weights_, right_weights_, right_before_weights_;
};

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
