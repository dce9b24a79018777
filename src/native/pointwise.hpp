// 1 × 1 convolutions of float32 maps: a matrix product over positions.

#pragma once

#include "front_lstm.hpp"

namespace pixelrnn {

// output = base + weight · max(0, x) + bias for each of `rows` positions; or of x itself, if not `rectify`.
struct Product {
    Index rows, features, outputs;
    bool rectify;
    const float* x;       // (rows, features)
    const float* weight;  // (outputs, features)
    const float* bias;    // (outputs)
};

// One instruction set's build.
struct PointwiseKernel {
    // `base` is null, or (rows, outputs) as `output` is.
    void (*forward)(const Product&, const float* base, float* output, int threads);
    void (*backward)(const Product&, const float* d_output, float* d_x, float* d_weight, float* d_bias, int threads);
};

}  // namespace pixelrnn
