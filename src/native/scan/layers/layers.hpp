// All layers of a scan.

#pragma once

#include "scan/layers/convolution.hpp"
#include "scan/layers/copies.hpp"
#include "scan/layers/diagonal_lstm.hpp"
#include "scan/layers/pointwise.hpp"
#include "scan/layers/row_lstm.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

inline std::unique_ptr<Layer> make_layer(const Instruction& i, Layout& layout) {
    switch (i.kind) {
        case Kind::row_lstm: return std::make_unique<RowLSTM>(i, layout);
        case Kind::diagonal_lstm: return std::make_unique<DiagonalLSTM>(i, layout);
        case Kind::conditioning: return std::make_unique<Conditioning>(i, layout);
        case Kind::concatenate: return std::make_unique<Concatenate>(i);
        case Kind::select: return std::make_unique<Select>(i);
        case Kind::add: return std::make_unique<Pointwise<Kind::add>>(i);
        case Kind::multiply: return std::make_unique<Pointwise<Kind::multiply>>(i);
        case Kind::sigmoid: return std::make_unique<Pointwise<Kind::sigmoid>>(i);
        case Kind::tanh: return std::make_unique<Pointwise<Kind::tanh>>(i);
        case Kind::relu: return std::make_unique<Pointwise<Kind::relu>>(i);
        case Kind::first:
        case Kind::convolve: break;
    }
    return make_convolution(i, layout);
}

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
