// Memory for numbers of bfloat16.

#pragma once

#include "amx.hpp"
#include "tiles.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

using Halves = std::unique_ptr<amx::Half[], Free>;
inline Halves allocate_halves(Index size) {
    const auto bytes = static_cast<std::size_t>(std::max<Index>(size, 1)) * sizeof(amx::Half);
    return Halves(static_cast<amx::Half*>(operator new[](bytes, LINE)));
}

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
