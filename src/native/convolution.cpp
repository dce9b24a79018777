// Masked convolutions, forward and backward. Compiled once for each instruction set.
//
// An image is copied once into a frame of zeros. The taps of a kernel row at a position are then one run of floats, and a
// convolution is a sum of a few products, one a kernel row, in which the rows of the left matrix overlap.

#include "convolution.hpp"

#include "product.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// The taps of a kernel, and how maps are cut up. The positions of a 1 × 1 kernel have no neighbours: they count as many
// maps of one short row.
struct Shape {
    Index above, side, span, taps;
    Index maps, height, width, positions;

    explicit Shape(const Convolution& c)
        : above(c.above), side(c.side), span(2 * c.side + 1), taps(c.above * span + c.side + 1), maps(c.batch),
          height(c.height), width(c.width), positions(c.batch * c.height * c.width) {
        if (taps == 1) {
            maps = (positions + CHUNK - 1) / CHUNK;
            height = 1;
            width = CHUNK;
        }
    }
    // Columns of a kernel row that are open.
    Index open(Index row) const { return row < above ? span : side + 1; }
    // The first position of a map, and its columns: the last map may be narrower.
    Index first(Index map) const { return map * height * width; }
    Index columns(Index map) const { return std::min(width, positions - first(map)); }
};

// Maps of `features` a position inside a frame of zeros: `side` columns on either side, and rows above or below.
struct Framed {
    Index height, features, top, side, line;
    bool bare;
    Buffer data;

    Framed(const Shape& shape, Index features, Index top, Index bottom)
        : height(shape.height), features(features), top(top), side(shape.side),
          line((shape.width + 2 * shape.side) * features), bare(shape.taps == 1), data(allocate((height + top + bottom) * line)) {
        std::fill(data.get(), data.get() + (height + top + bottom) * line, 0.0f);
    }

    // The first row of the frame around a map, which is the map itself if it needs no frame; `of_map` are its features.
    const float* around(const float* from, Index columns, Index of_map, bool rectify) const {
        if (bare && of_map == features && !rectify) return from;
        // Positions of a row are side by side, unless the frame has more features than the map.
        const Index floats = of_map == features ? columns * features : of_map, steps = columns * of_map / floats;
        for (Index r = 0; r < height; ++r) {
            float* to = data.get() + (top + r) * line + side * features;
            for (Index n = 0; n < steps; ++n, to += features, from += floats) {
                if (rectify) {
                    rectify_row(to, from, floats);
                } else {
                    copy_row(to, from, floats);
                }
            }
        }
        return data.get();
    }
};

// How maps are shared among tasks.
struct Share {
    Index maps, count;
    Share(Index maps, int threads) : maps(maps), count(std::min<Index>(maps, threads == 1 ? 1 : 4 * threads)) {}
    Index first(Index task) const { return maps * task / count; }
};

void forward(const Convolution& c, const float* base, float* output, int threads) {
    const Shape shape(c);
    const ForwardProduct product(
        shape.taps * c.features, c.outputs,
        [&](Index k, Index n) { return c.weight[(n * c.features + k % c.features) * shape.taps + k / c.features]; }, c.bias);
    const Share share(shape.maps, threads);
    run_tasks(share.count, threads, [&](Index task) {
        const Framed frame(shape, c.features, c.above, 0);
        std::vector<Term> terms(c.above + 1);
        for (Index map = share.first(task); map < share.first(task + 1); ++map) {
            const Index first = shape.first(map), columns = shape.columns(map);
            const float* x = frame.around(c.x + first * c.features, columns, c.features, c.rectify);
            for (Index r = 0; r < shape.height; ++r) {
                for (Index row = 0; row <= c.above; ++row)
                    terms[row] = {x + (r + row) * frame.line, c.features, shape.open(row) * c.features};
                const Index at = (first + r * shape.width) * c.outputs;
                product.run(columns, terms, base == nullptr ? nullptr : base + at, output + at);
            }
        }
    });
}

void backward(const Convolution& c, const float* d_output, const float* base, float* d_x, float* d_weight, float* d_bias,
              int threads) {
    const Shape shape(c);
    const Index padded = round_up(c.outputs, V);
    // Kernel rows from the last to the first, each from right to left: so an input meets the outputs that it went to.
    const BackwardProduct product(
        shape.taps * c.features, c.features, c.outputs, shape.taps * padded, [&](Index k, Index n) {
            const Index o = k % padded, at = k / padded;
            if (o >= c.outputs) return 0.0f;
            Index row = shape.above, col = shape.side - at;
            if (at > shape.side) {
                row -= 1 + (at - shape.side - 1) / shape.span;
                col = shape.span - 1 - (at - shape.side - 1) % shape.span;
            }
            return c.weight[(o * c.features + n) * shape.taps + row * shape.span + col];
        });
    const Share share(shape.maps, threads);
    const Index count = std::max<Index>(1, share.count), size = product.sums_size;
    const Buffer sums = allocate(count * size);
    if (share.count == 0) std::fill(sums.get(), sums.get() + size, 0.0f);
    run_tasks(share.count, threads, [&](Index task) {
        float* own = sums.get() + task * size;
        std::fill(own, own + size, 0.0f);
        const Framed x_frame(shape, c.features, c.above, 0), d_frame(shape, padded, 0, c.above);
        std::vector<Term> terms(c.above + 1);
        std::vector<Window> windows(shape.height);
        std::vector<BackwardProduct::Part> parts;
        for (Index row = 0; row <= c.above; ++row) parts.push_back({shape.open(row) * c.features, row * x_frame.line});
        for (Index map = share.first(task); map < share.first(task + 1); ++map) {
            const Index first = shape.first(map), columns = shape.columns(map);
            const float* x = x_frame.around(c.x + first * c.features, columns, c.features, c.rectify);
            const float* d = d_frame.around(d_output + first * c.outputs, columns, c.outputs, false);
            for (Index r = 0; r < shape.height; ++r) {
                for (Index below = 0; below <= c.above; ++below) {
                    const Index skipped = below == 0 ? c.side : 0;
                    terms[below] = {d + (r + below) * d_frame.line + skipped * padded, padded, (shape.span - skipped) * padded};
                }
                const Index at = (first + r * shape.width) * c.features;
                if (d_x != nullptr)
                    product.inputs(columns, terms, c.rectify ? c.x + at : nullptr, base == nullptr ? nullptr : base + at, d_x + at);
                windows[r] = {x + r * x_frame.line, c.features, d + r * d_frame.line + c.side * padded, padded, columns};
            }
            product.weights(windows, parts, own);
        }
    });
    // Add up the tasks, always in the same order.
    for (Index task = 1; task < count; ++task) add_row(sums.get(), sums.get() + task * size, size);
    product.unpack(
        sums.get(),
        [&](Index n, Index k) { return d_weight + (n * c.features + k % c.features) * shape.taps + k / c.features; }, d_bias);
}

}  // namespace

extern const ConvolutionKernel convolution;
const ConvolutionKernel convolution = {forward, backward};

}  // namespace pixelrnn::PIXELRNN_ISA
