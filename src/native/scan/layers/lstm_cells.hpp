// What both recurrent layers do with their gates.

#pragma once

#include "scan/colours.hpp"
#include "scan/weights.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

constexpr Index GATES = 4;  // in the order o, f, i, g

// The rows of weights (gate · h + feature) of each colour, as [vector of features][gate][lane].
std::vector<std::vector<Index>> gate_rows(const ColourGroups& groups) {
    std::vector<std::vector<Index>> rows(groups.colours);
    for (Index c = 0; c < groups.colours; ++c)
        for (Index k = 0; k < groups.count(c); k += V)
            for (Index gate = 0; gate < GATES; ++gate)
                for (Index f = k; f < k + V; ++f) rows[c].push_back(f < groups.count(c) ? gate * groups.features + groups.first(c) + f : -1);
    return rows;
}

// Sums for the gates, of rows as `gate_rows` orders them.
struct Gates {
    Real* sums;
    Index stride;  // from row to row
};

// c' = f ⊙ c + i ⊙ g and h' = o ⊙ tanh(c') of so many features. Where each row reads c, writes h' and c', and reads what is
// added to the output, if anything is, are in the part; `target` may be null. Gates are lost.
INLINE void compute_cells(const Part& part, Index rows, const Gates& gates, Index features, const Target* target, bool adds) {
    const Arithmetic& arithmetic = *part.arithmetic;
    const auto gate = [&](const Real* sums) __attribute__((always_inline)) { return arithmetic.rounded(load(sums)); };
    // In two passes, as each is a chain of operations that wait for each other: the rows of a pass do not.
    for (Index m = 0; m < rows; ++m)
        for (Index k = 0; k < features; k += V) {
            Real* sums = gates.sums + m * gates.stride + k * GATES;
            const Index rest = features - k;
            const Vec f = arithmetic.sigmoid(gate(sums + V)), i = arithmetic.sigmoid(gate(sums + 2 * V)), g = arithmetic.tanh(gate(sums + 3 * V));
            const Vec next = arithmetic.state(f * load_columns(part.cell_from[m] + k, rest) + i * g);
            store(sums + V, next);
            store_columns(part.cell_to[m] + k, next, rest);
        }
    for (Index m = 0; m < rows; ++m)
        for (Index k = 0; k < features; k += V) {
            const Real* sums = gates.sums + m * gates.stride + k * GATES;
            const Index rest = features - k;
            const Vec h = arithmetic.rounded(arithmetic.sigmoid(gate(sums)) * arithmetic.tanh(load(sums + V)));
            store_columns(part.hidden_to[m] + k, h, rest);
            if (target != nullptr) target->put(m, k, adds ? h + load_columns(part.added[m] + k, rest) : h);
        }
}

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
