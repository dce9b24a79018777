// Masked convolutions of float32 maps: kernels that end at their centre.

#pragma once

#include "front_lstm.hpp"

namespace pixelrnn {

// A tap is a row (0 is `above` rows up) and a column (0 is `side` columns to the left) of the kernel. The rows above are
// whole, of 2 · side + 1 columns; the last row ends at the centre, after side + 1. Taps are in raster order.
struct Convolution {
    Index batch, height, width, features, outputs, above, side;
    bool rectify;         // of max(0, x)
    const float* x;       // (B, H, W, F)
    const float* weight;  // (outputs, F, taps)
    const float* bias;    // (outputs)
};

// One instruction set's build.
struct ConvolutionKernel {
    void (*forward)(const Convolution&, float* output, int threads);  // (B, H, W, outputs)
    void (*backward)(const Convolution&, const float* d_output, float* d_x, float* d_weight, float* d_bias, int threads);
};

}  // namespace pixelrnn
