// Masked convolutions of float32 maps: kernels that end at their centre, of which 1 × 1 is one.

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
    // `base`, to which the result is added, is null or (B, H, W, outputs) as `output` is.
    void (*forward)(const Convolution&, const float* base, float* output, int threads);
    // `d_x` is null if it is not wanted. `base`, to which it is added, is null or (B, H, W, F) as `d_x` is.
    void (*backward)(const Convolution&, const float* d_output, const float* base, float* d_x, float* d_weight,
                     float* d_bias, int threads);
};

}  // namespace pixelrnn
