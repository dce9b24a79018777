// What layers remember.

#pragma once

#include "scan/part.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// Maps of an image of which a few rows are kept, as a ring, between columns that stay as they are. A position has a slot for
// its features.
class Ring {
public:
    Ring(Layout& layout, Index rows, Index width, Index features, Index left_margin = 0, Index right_margin = 0)
        : rows_(rows), width_(left_margin + width + right_margin), features_(features), left_margin_(left_margin),
          start_(layout.take(size())) {}

    Index size() const { return rows_ * width_ * features_; }
    // The number of a view of the slot so many rows above a position, and columns to the right.
    Index view(Views& views, Index above, Index right) const {
        return views.number({rows_, width_, features_, above, left_margin_ + right});
    }
    // Call run(m, slot) with what a view sees from each position.
    template <typename Run>
    INLINE void each(const Part& part, Index view, Run run) const {
        Real* const start = part.state.get() + start_;
        const Index* const offsets = part.offsets_of(view);
        for (Index m = 0; m < part.size(); ++m) run(m, start + offsets[m]);
    }
    // Of an image of the part; a row may be as far below 0 as there are spare rows.
    Real* slot(const Part& part, Index b, Index row, Index col) const {
        return data(part, b) + ((row + rows_) % rows_ * width_ + col + left_margin_) * features_;
    }
    Real* data(const Part& part, Index b) const { return part.state_of(b) + start_; }
    // Set all slots of all images to zero, or to some features.
    void fill(const Part& part, const Real* values) const {
        for (Index b = 0; b < part.images; ++b) {
            Real* to = data(part, b);
            for (Index n = 0; n < rows_ * width_; ++n, to += features_) {
                if (values == nullptr) {
                    std::fill(to, to + features_, Real{});
                } else {
                    std::copy(values, values + features_, to);
                }
            }
        }
    }

private:
    Index rows_, width_, features_, left_margin_;
    Index start_;  // in the state of an image
};

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
