// The Row LSTM: states come from the row above.

#pragma once

#include "scan/layers/layer.hpp"
#include "scan/layers/lstm_cells.hpp"
#include "scan/ring.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

class RowLSTM final : public Layer {
public:
    RowLSTM(const Instruction& i, Layout& layout)
        : register_in_(i.inputs[0]), register_out_(i.output), features_(i.features), hidden_features_(i.outputs),
          groups_(i.outputs, layout.colours), input_(layout, layout.in_flight(), layout.size.width, i.features, i.side),
          hidden_(layout, layout.in_flight() + 1, layout.size.width, i.outputs, i.side, i.side),
          cell_(layout, layout.in_flight() + 1, layout.size.width, i.outputs),
          input_slot_(input_.view(layout.views, 0, 0)), input_taps_(input_.view(layout.views, 0, -i.side)),
          hidden_slot_(hidden_.view(layout.views, 0, 0)), neighbours_above_(hidden_.view(layout.views, 1, -i.side)),
          cell_slot_(cell_.view(layout.views, 0, 0)), cell_above_(cell_.view(layout.views, 1, 0)),
          hidden_init_(i.tensors[3], i.tensors[3] + i.outputs), cell_init_(i.tensors[4], i.tensors[4] + i.outputs),
          weights_({(i.side + 1) * i.features, (2 * i.side + 1) * i.outputs}, columns_of(i), gate_rows(groups_), i.tensors[1]) {}

    Room room() const override { return {0, weights_.terms(), round_up(hidden_features_, V) * GATES}; }
    void begin(Part& part) const override {
        input_.fill(part, nullptr);
        hidden_.fill(part, hidden_init_.data());
        cell_.fill(part, cell_init_.data());
    }
    void step(Part& part, Index colour) const override {
        const Index first = groups_.first(colour), count = groups_.count(colour), rows = part.size();
        const Register& x = part.registers[register_in_];
        input_.each(part, input_slot_, [&](Index m, Real* slot) { copy_row(slot, x.at(m), features_); });
        input_.each(part, input_taps_, [&](Index m, Real* taps) { part.terms[m] = taps; });
        hidden_.each(part, neighbours_above_, [&](Index m, Real* neighbours) { part.terms[rows + m] = neighbours; });
        hidden_.each(part, hidden_slot_, [&](Index m, Real* slot) { part.hidden_to[m] = slot + first; });
        cell_.each(part, cell_above_, [&](Index m, Real* slot) { part.cell_from[m] = slot + first; });
        cell_.each(part, cell_slot_, [&](Index m, Real* slot) { part.cell_to[m] = slot + first; });
        const Gates gates{part.sums.get(), weights_.padded(colour)};
        weights_.run(colour, rows, part.terms.data(), {gates.sums, gates.stride}, part);
        const Target target(part.registers[register_out_], nullptr, first, count);
        compute_cells(part, rows, gates, count, &target, false);
    }

private:
    static std::vector<Column> columns_of(const Instruction& i) {
        std::vector<Column> columns;
        append_taps(columns, i.tensors[0], i.features, i.side + 1);
        append_taps(columns, i.tensors[2], i.outputs, 2 * i.side + 1);
        return columns;
    }

    Index register_in_, register_out_;
    Index features_, hidden_features_;
    ColourGroups groups_;
    Ring input_, hidden_, cell_;
    Index input_slot_, input_taps_, hidden_slot_, neighbours_above_, cell_slot_, cell_above_;  // views
    std::vector<Real> hidden_init_, cell_init_;
    Weights weights_;
};

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
