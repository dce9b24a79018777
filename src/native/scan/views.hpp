// Where layers look, seen from a position, in the state of an image.

#pragma once

#include <algorithm>
#include <vector>

#include "scan/scan.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// A place in maps of which a few rows are kept: row r is in row r modulo `rows`.
struct View {
    Index rows, width, features;  // of the maps
    Index above, right;           // so many rows above a position (less than there are), and columns to the right of it

    bool operator==(const View& o) const {
        return rows == o.rows && width == o.width && features == o.features && above == o.above && right == o.right;
    }
    // In numbers from the beginning of the maps.
    Index offset(Index row, Index col) const { return ((row + rows - above) % rows * width + col + right) * features; }
};

// The views of all layers. Layers of a kind have the same, so offsets are computed once a wave, not once a layer.
class Views {
public:
    // The number of a view, which is added if it is new.
    Index number(const View& view) {
        const auto known = std::find(views_.begin(), views_.end(), view);
        if (known != views_.end()) return known - views_.begin();
        views_.push_back(view);
        return static_cast<Index>(views_.size()) - 1;
    }
    Index count() const { return static_cast<Index>(views_.size()); }
    const View& operator[](Index number) const { return views_[number]; }

private:
    std::vector<View> views_;
};

// What layers are made for. They take their share of the state of an image, and add their views.
struct Layout {
    ScanSize size;
    Index colours;
    Index state_size = 0;  // numbers an image
    Views views = {};

    // Rows that are unfinished at the same time.
    Index in_flight() const { return std::min(size.height, (size.width - 1) / size.slope + 1); }
    // The beginning of so many numbers of the state.
    Index take(Index numbers) {
        state_size += numbers;
        return state_size - numbers;
    }
};

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
