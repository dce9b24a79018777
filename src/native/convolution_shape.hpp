// How a chain of convolutions goes over its images.

#pragma once

#include "convolution.hpp"
#include "product.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// How the batch is cut. If no line has neighbours, positions count as images of one short row: there are more to share.
struct Cut {
    Index images, height, width, positions;

    explicit Cut(const Chain& c) : images(c.batch), height(c.height), width(c.width), positions(c.batch * c.height * c.width) {
        if (std::all_of(c.lines.begin(), c.lines.end(), [](const Line& line) { return line.above == 0 && line.side == 0; })) {
            images = (positions + CHUNK - 1) / CHUNK;
            height = 1;
            width = CHUNK;
        }
    }
    Index largest() const { return height * width; }
    Index first(Index image) const { return image * largest(); }
    // Positions of an image; the last may have fewer.
    Index count(Index image) const { return std::min(largest(), positions - first(image)); }
};

// The taps of a kernel, and how it goes over an image: in panes, which are the whole of it, or some positions of a 1 × 1
// kernel, whose maps then stay in the first-level cache.
struct Shape {
    Index above, side, span, taps, height, width;

    Shape(const Line& line, const Cut& cut)
        : above(line.above), side(line.side), span(2 * side + 1), taps(above * span + side + 1),
          height(taps == 1 ? 1 : cut.height), width(taps == 1 ? CHUNK : cut.width) {}
    // Columns of a kernel row that are open.
    Index open(Index row) const { return row < above ? span : side + 1; }
    // Of the taps to the right of an input and in the rows below, in raster order: the one by which each saw it.
    Index seen_by(Index at) const {
        const Index below = at <= side ? 0 : 1 + (at - side - 1) / span;
        return (above - below) * span + (below == 0 ? side - at : span - 1 - (at - side - 1) % span);
    }
    // Call run(first position, columns) for each pane of so many positions.
    template <typename Run>
    void panes(Index positions, Run run) const {
        const Index size = height * width;
        for (Index first = 0; first < positions; first += size) run(first, std::min(width, positions - first));
    }
};

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
