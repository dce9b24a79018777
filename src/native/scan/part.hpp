// The part of a batch that a task takes through all layers, wave after wave, for the whole scan.

#pragma once

#include "scan/registers.hpp"
#include "scan/views.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

struct Position {
    Index row, col;
};

// A position of an image: row m of the registers, image b of the part, number n among the positions visited together.
struct Visit {
    Index m, b, n, row, col;
};

// Row m of the registers is of position n and image b: m = n · images + b.
struct Part {
    Index first, images;  // of the batch
    Index height, width, colours;
    const Arithmetic* arithmetic;
    const Real* conditioning;  // of the whole batch, when a scan begins
    const std::int64_t* symbols = nullptr;  // of the whole batch
    std::vector<Position> positions = {};   // visited together
    std::vector<Index> offsets = {};        // in the state of the part: of each view, of each row of the registers
    std::vector<Register> registers = {};
    Index state_size = 0;  // of an image
    Buffer state = {};
    // For the layer that computes: rows copied together, the rows of each term of a product, and their sums.
    Buffer gathered = {}, sums = {};
    std::vector<const Real*> terms = {};
    // For each row: where a recurrent layer reads c, writes h and c, and reads what is added to its output.
    std::vector<const Real*> cell_from = {}, added = {};
    std::vector<Real*> hidden_to = {}, cell_to = {};

    Index count() const { return static_cast<Index>(positions.size()); }
    Index size() const { return count() * images; }  // rows of the registers
    Real* state_of(Index b) const { return state.get() + b * state_size; }

    // Call run(visit) for each row of the registers.
    template <typename Run>
    INLINE void each(Run run) const {
        for (Index n = 0, m = 0; n < count(); ++n)
            for (Index b = 0; b < images; ++b, ++m) run(Visit{m, b, n, positions[n].row, positions[n].col});
    }
    // Find what the layers look at from these positions.
    void locate(const Views& views) {
        Index* to = offsets.data();
        for (Index view = 0; view < views.count(); ++view)
            for (const Position& position : positions) {
                const Index offset = views[view].offset(position.row, position.col);
                for (Index b = 0; b < images; ++b) *to++ = offset + b * state_size;
            }
    }
    const Index* offsets_of(Index view) const { return offsets.data() + view * size(); }
};

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
