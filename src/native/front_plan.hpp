// Where everything of a recurrence over fronts lies in memory, forward and backward. Compiled once for each instruction set.
//
// A task scans a few images. Its rows are (cell j of the front, image b of the task), row = j · images + b, and the
// cells of a front with the states around them lie side by side, so a neighbour is a constant number of rows away.
// Features are padded to whole vectors: a block is V features of h, and V lanes of each gate o, f, i, g belong to it.

#pragma once

#include <algorithm>
#include <vector>

#include "halves.hpp"
#include "product.hpp"

namespace pixelrnn::PIXELRNN_ISA {

void front_backward(const Problem&, const Gradients&, int threads);

namespace {

constexpr Index GATES = 4;

struct Front {
    Index row, col, cells;      // its first cell, in the direction's own columns
    Index before, last, after;  // states it sees: of the border, of the front before it, of the border
    Index start;                // cells in the fronts before it
    Index seen;                 // slot of the first state it sees
    Index slots() const { return before + last + after; }
};

// Where everything lies.
struct Plan {
    Index hidden, blocks, padded, line;         // h, its vectors, its lanes, and the floats from a row of h to the next
    Index input_line, input_vectors;            // the same for rows of x
    Index depth;                                // of the forward product: S · F + T · h
    Index down, across;                         // from a cell of a front to the next
    Index predecessor;                          // the neighbour that hands on its c
    Index cells, slots, widest;
    std::vector<Front> fronts;

    explicit Plan(const Problem& p) {
        hidden = p.hidden;
        padded = round_up(p.hidden, V);
        blocks = padded / V;
        line = spread(padded);
        input_line = spread(round_up(p.features, V));
        input_vectors = round_up(p.features, V) / V;
        depth = p.taps * p.features + p.neighbours * p.hidden;
        down = p.diagonal ? 1 : 0;
        across = p.diagonal ? -1 : 1;
        predecessor = p.diagonal ? 1 : p.neighbours / 2;
        cells = p.height * p.width;
        slots = widest = 0;
        Index start = 0, last = 0;
        for (Index n = 0; n < (p.diagonal ? p.height + p.width - 1 : p.height); ++n) {
            Front front{};
            if (p.diagonal) {
                front.row = std::max<Index>(0, n - p.width + 1);
                front.col = n - front.row;
                front.cells = std::min(n, p.height - 1) - front.row + 1;
                front.before = n < p.width;
                front.after = n < p.height;
            } else {
                const Index margin = p.neighbours / 2;
                front.row = n;
                front.cells = p.width;
                front.before = margin;
                front.after = n == 0 ? margin + p.width : margin;
            }
            front.last = last;
            front.start = start;
            front.seen = slots;
            start += front.cells;
            slots += front.slots();
            widest = std::max({widest, front.slots(), front.cells});
            last = front.cells;
            fronts.push_back(front);
        }
        slots += last;
        widest += p.neighbours + p.taps;
    }

    // Rows a power of two apart would share a few sets of the cache.
    static Index spread(Index floats) { return floats >= 64 && floats % 64 == 0 ? floats + 16 : floats; }

    Index before_next(std::size_t front) const { return front + 1 < fronts.size() ? fronts[front + 1].before : 0; }
    Index slots_next(std::size_t front) const {
        return front + 1 < fronts.size() ? fronts[front + 1].slots() : fronts[front].cells;
    }
    Index seen_next(std::size_t front) const { return fronts[front].seen + fronts[front].slots(); }

    // What is kept of one direction of one image: gates, h, c.
    Index saved_gates() const { return cells * blocks * WIDE; }
    Index saved_hidden() const { return slots * line; }
    Index saved_cell() const { return slots * padded; }
    Index saved() const { return saved_gates() + saved_hidden() + saved_cell(); }
    // Of an image: its directions, and the sum of their maps if that is not the output.
    Index saved_image(const Problem& p) const {
        return round_up(p.directions * saved() + (p.outputs > 0 ? cells * p.hidden : 0), 16);
    }
};

// Packed weights of WIDE columns, `depth` (an even number of) rows a panel, as right matrices of bfloat16.
inline Halves as_panels(const float* weights, Index panels, Index depth) {
    Halves halves = allocate_halves(panels * depth * WIDE);
    for (Index n = 0; n < panels; ++n)
        amx::interleave(halves.get() + n * depth * WIDE, weights + n * depth * WIDE, WIDE, WIDE, depth, depth);
    return halves;
}

// Tasks: parts of a few images in `count` groups; group n has parts first(n) ... first(n + 1) - 1.
struct Tasks {
    Index images, parts, count, batch;
    Tasks(const Problem& p, int threads) : images(p.together), batch(p.batch) {
        parts = (p.batch + images - 1) / images;
        count = std::min<Index>(parts, threads == 1 ? 1 : 2 * threads);
    }
    Index first(Index task) const { return parts * task / count; }
    Index in_part(Index part) const { return std::min(images, batch - part * images); }
};

// The rows of a front in a map: run(row, its features), for the cells of which the row `below` further down exists.
template <typename Float, typename Run>
INLINE void for_rows(const Problem& p, const Plan& plan, const Front& front, Index d, Index below, const Map<Float>& map,
                     Index image, Index images, Run run) {
    const Index col = d == 0 ? front.col : p.width - 1 - front.col;
    const Index step = (plan.down * map.width + (d == 0 ? plan.across : -plan.across)) * map.features;
    const Index image_step = map.height * map.width * map.features;
    const Index cells = std::min(front.cells, plan.down ? p.height - below - front.row : front.cells);
    if (!plan.down && front.row + below >= p.height) return;
    Float* cell = map.at(image, front.row + below, col);
    for (Index m = 0; m < cells * images; cell += step) {
        Float* to = cell;
        for (Index b = 0; b < images; ++b, ++m, to += image_step) run(m, to);
    }
}

inline void gather(const Problem& p, const Plan& plan, const Front& front, Index d, Index image, Index images, float* rows) {
    const Index margin = (p.taps - 1) * images;
    std::fill(rows, rows + margin * plan.input_line, 0.0f);
    rows += margin * plan.input_line;
    const Map<const float> x{p.x, p.height, p.width, p.features};
    for_rows(p, plan, front, d, 0, x, image, images, [&](Index m, const float* from) {
        copy_row(rows + m * plan.input_line, from, p.features);
    });
}

// Ask for memory that will be needed soon: an order that is not sequential hides it from the processor's own guesses.
INLINE void prefetch(const float* from, Index floats) {
    for (Index k = 0; k < floats; k += 16) __builtin_prefetch(from + k, 0, 2);
}

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
