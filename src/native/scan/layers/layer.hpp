// What every instruction becomes.

#pragma once

#include "scan/part.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// What a layer needs of a part, for each row of the registers: numbers of a row that is copied together, terms of a product,
// and numbers of a row of sums.
struct Room {
    Index gathered = 0, terms = 0, sums = 0;
};

// Weights, and where the state lies in that of an image. A colour of a pixel is computed by the features of that colour
// only: those of earlier colours are in the registers already, and later ones have weight zero.
class Layer {
public:
    virtual ~Layer() = default;
    virtual Room room() const { return {}; }
    virtual void begin(Part&) const {}
    virtual void step(Part&, Index colour) const = 0;
    virtual void finish_row(Part&, Index /*row*/) const {}
};

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
