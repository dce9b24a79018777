// Chains of masked convolutions of float32 maps: kernels that end at their centre, of which 1 × 1 is one.

#pragma once

#include <vector>

#include "front_lstm.hpp"

namespace pixelrnn {

// A convolution, or a sum of two maps. Maps have numbers; 0 is x, and the last line writes the output.
//
// A tap is a row (0 is `above` rows up) and a column (0 is `side` columns to the left) of the kernel. The rows above are
// whole, of 2 · side + 1 columns; the last row ends at the centre, after side + 1. Taps are in raster order.
struct Line {
    Index input, other, output;  // maps; `other`, if not -1, is added
    Index features, outputs;     // of input and output
    Index above, side;
    bool rectify;         // of max(0, input)
    bool halves;          // multiply bfloat16, as amx.hpp does
    const float* weight;  // (outputs, F, taps); null: the line is a sum, input + other
    const float* bias;    // (outputs)
};

struct Chain {
    Index batch, height, width;
    std::vector<Line> lines;
    // Each map is (B, H, W, F). Null: it is not kept, and lives as long as it is needed, an image at a time. Backward, those
    // that a convolution has read must be there.
    std::vector<float*> maps;
};

struct ChainGradients {
    const float* output;
    const float* beside;                 // added to that of x; null: nothing
    float* x;                            // null: not wanted
    std::vector<float*> weights, biases;  // of each line
};

// One instruction set's build.
struct ConvolutionKernel {
    void (*forward)(const Chain&, int threads);
    void (*backward)(const Chain&, const ChainGradients&, int threads);
};

}  // namespace pixelrnn
