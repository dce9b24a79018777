// Masked convolutions, forward and backward. Compiled once for each instruction set.
//
// An image is copied once into a frame of zeros. The taps of a kernel row at a position are then one run of floats, and a
// convolution is a sum of a few products, one a kernel row, in which the rows of the left matrix overlap.

#include "convolution.hpp"

#include "product.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

struct Shape {
    Index above, side, span, taps;

    explicit Shape(const Convolution& c)
        : above(c.above), side(c.side), span(2 * c.side + 1), taps(c.above * span + c.side + 1) {}
    // Columns of a kernel row that are open.
    Index open(Index row) const { return row < above ? span : side + 1; }
};

// A map of `features` a position inside a frame of zeros: `side` columns on either side, and rows above or below.
struct Framed {
    Index height, width, features, top, bottom, side, line;
    Buffer data;

    Framed(const Convolution& c, Index features, Index top, Index bottom)
        : height(c.height), width(c.width), features(features), top(top), bottom(bottom), side(c.side),
          line((c.width + 2 * c.side) * features), data(allocate((c.height + top + bottom) * line)) {
        std::fill(data.get(), data.get() + (height + top + bottom) * line, 0.0f);
    }

    float* row(Index number) const { return data.get() + number * line; }

    // `padded` is the number of features of a position in the frame, at least those of the map.
    void fill(const float* from, Index of_map, bool rectify) const {
        for (Index r = 0; r < height; ++r) {
            float* to = row(top + r) + side * features;
            for (Index c = 0; c < width; ++c, to += features, from += of_map) {
                if (rectify) {
                    rectify_row(to, from, of_map);
                } else {
                    copy_row(to, from, of_map);
                }
            }
        }
    }
};

// How images are shared among tasks.
struct Share {
    Index images, count;
    Share(Index images, int threads)
        : images(images), count(std::min<Index>(images, threads == 1 ? 1 : 4 * threads)) {}
    Index first(Index task) const { return images * task / count; }
};

void forward(const Convolution& c, float* output, int threads) {
    if (c.batch == 0) return;
    const Shape shape(c);
    const Packed weight(shape.taps * c.features, c.outputs, [&](Index k, Index n) {
        return c.weight[(n * c.features + k % c.features) * shape.taps + k / c.features];
    });
    const Packed bias(1, c.outputs, [&](Index, Index n) { return c.bias[n]; });
    const Share share(c.batch, threads);
    const Index image_size = c.height * c.width;
    run_tasks(share.count, threads, [&](Index task) {
        const Framed x(c, c.features, c.above, 0);
        for (Index image = share.first(task); image < share.first(task + 1); ++image) {
            x.fill(c.x + image * image_size * c.features, c.features, c.rectify);
            for_groups(weight.padded, [&](auto vectors, Index first) {
                constexpr Index N = decltype(vectors)::value;
                for (Index r = 0; r < c.height; ++r)
                    for_tiles<TALL<N>>(c.width, [&](auto size, Index m) __attribute__((always_inline)) {
                        constexpr Index M = decltype(size)::value;
                        Vec acc[M][N];
#pragma GCC unroll 8
                        for (Index n = 0; n < N; ++n) {
                            const Vec start = load(bias.group(first) + n * V);
#pragma GCC unroll 8
                            for (Index k = 0; k < M; ++k) acc[k][n] = start;
                        }
                        const float* right = weight.group(first);
                        for (Index row = 0; row <= shape.above; ++row) {
                            const Index depth = shape.open(row) * c.features;
                            multiply<M, N>(acc, x.row(r + row) + m * c.features, c.features, 1, right, N * V, depth);
                            right += depth * N * V;
                        }
                        store_tile<M, N>(acc, output + ((image * c.height + r) * c.width + m) * c.outputs + first, c.outputs,
                                         c.outputs - first);
                    });
            });
        }
    });
}

void backward(const Convolution& c, const float* d_output, float* d_x, float* d_weight, float* d_bias, int threads) {
    const Shape shape(c);
    const Index padded = round_up(c.outputs, V), depth = shape.taps * c.features, image_size = c.height * c.width;
    // Kernel rows from the last to the first, each from right to left: so an input meets the outputs that it went to.
    const Packed transposed(shape.taps * padded, c.features, [&](Index k, Index n) {
        const Index o = k % padded, at = k / padded;
        if (o >= c.outputs) return 0.0f;
        Index row = shape.above, col = shape.side - at;
        if (at > shape.side) {
            row -= 1 + (at - shape.side - 1) / shape.span;
            col = shape.span - 1 - (at - shape.side - 1) % shape.span;
        }
        return c.weight[(o * c.features + n) * shape.taps + row * shape.span + col];
    });
    const Share share(c.batch, threads);
    const Index count = std::max<Index>(1, share.count), size = (depth + 1) * padded;
    const Buffer sums = allocate(count * size);  // for each task: [group of outputs][tap and feature, then the bias][output]
    if (c.batch == 0) std::fill(sums.get(), sums.get() + size, 0.0f);
    run_tasks(share.count, threads, [&](Index task) {
        float* own = sums.get() + task * size;
        std::fill(own, own + size, 0.0f);
        const Framed x(c, c.features, c.above, 0), d(c, padded, 0, c.above);
        for (Index image = share.first(task); image < share.first(task + 1); ++image) {
            const float* x_map = c.x + image * image_size * c.features;
            x.fill(x_map, c.features, c.rectify);
            d.fill(d_output + image * image_size * c.outputs, c.outputs, false);
            for_groups(transposed.padded, [&](auto vectors, Index first) {
                constexpr Index N = decltype(vectors)::value;
                for (Index r = 0; r < c.height; ++r)
                    for_tiles<TALL<N>>(c.width, [&](auto size, Index m) __attribute__((always_inline)) {
                        constexpr Index M = decltype(size)::value;
                        Vec acc[M][N] = {};
                        const float* right = transposed.group(first);
                        for (Index below = 0; below <= shape.above; ++below) {
                            const Index skipped = below == 0 ? shape.side : 0, k = (shape.span - skipped) * padded;
                            multiply<M, N>(acc, d.row(r + below) + (m + skipped) * padded, padded, 1, right, N * V, k);
                            right += k * N * V;
                        }
                        const Index at = ((image * c.height + r) * c.width + m) * c.features + first;
                        if (c.rectify) {
#pragma GCC unroll 8
                            for (Index k = 0; k < M; ++k)
#pragma GCC unroll 8
                                for (Index n = 0; n < N; ++n) {
                                    const Vec value =
                                        load_columns(c.x + at + k * c.features + n * V, c.features - first - n * V);
                                    acc[k][n] = value > Vec{} ? acc[k][n] : Vec{};
                                }
                        }
                        store_tile<M, N>(acc, d_x + at, c.features, c.features - first);
                    });
            });
            for_groups(padded, [&](auto vectors, Index first) {
                constexpr Index N = decltype(vectors)::value;
                float* to = own + first * (depth + 1);
                const float* right = d.row(0) + c.side * padded + first;
                for (Index row = 0; row <= shape.above; ++row) {
                    const Index span = shape.open(row) * c.features;
                    for_tiles<TALL<N>>(span, [&](auto size, Index m) __attribute__((always_inline)) {
                        constexpr Index M = decltype(size)::value;
                        Vec acc[M][N];
#pragma GCC unroll 8
                        for (Index k = 0; k < M; ++k)
#pragma GCC unroll 8
                            for (Index n = 0; n < N; ++n) acc[k][n] = load(to + (m + k) * N * V + n * V);
                        for (Index r = 0; r < c.height; ++r)
                            multiply<M, N>(acc, x.row(r + row) + m, 1, c.features, right + r * d.line, padded, c.width);
#pragma GCC unroll 8
                        for (Index k = 0; k < M; ++k)
#pragma GCC unroll 8
                            for (Index n = 0; n < N; ++n) store(to + (m + k) * N * V + n * V, acc[k][n]);
                    });
                    to += span * N * V;
                }
                for (Index r = 0; r < c.height; ++r)
                    for (Index m = 0; m < c.width; ++m) add_row(to, right + r * d.line + m * padded, N * V);
            });
        }
    });
    // Add up the tasks, always in the same order, and undo the packing.
    for (Index task = 1; task < count; ++task) add_row(sums.get(), sums.get() + task * size, size);
    for (Index first = 0; first < padded; first += WIDE) {
        const Index columns = std::min(WIDE, padded - first);
        const float* from = sums.get() + first * (depth + 1);
        for (Index n = 0; n < std::min(columns, c.outputs - first); ++n) {
            for (Index k = 0; k < depth; ++k)
                d_weight[((first + n) * c.features + k % c.features) * shape.taps + k / c.features] = from[k * columns + n];
            d_bias[first + n] = from[depth * columns + n];
        }
    }
}

}  // namespace

extern const ConvolutionKernel convolution;
const ConvolutionKernel convolution = {forward, backward};

}  // namespace pixelrnn::PIXELRNN_ISA
