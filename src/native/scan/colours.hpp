// Which features a colour has.

#pragma once

#include <vector>

#include "front_lstm.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// Of F features, feature f has colour ⌊f · C / F⌋: the first ones have colour 0, the next ones colour 1, and so on.
class ColourGroups {
public:
    ColourGroups(Index features, Index colours) : features(features), colours(colours) {
        for (Index c = 0; c <= colours; ++c) firsts_.push_back((c * features + colours - 1) / colours);
    }
    Index first(Index colour) const { return firsts_[colour]; }
    Index count(Index colour) const { return firsts_[colour + 1] - firsts_[colour]; }
    // The features of each colour.
    std::vector<std::vector<Index>> by_colour() const {
        std::vector<std::vector<Index>> features_of(colours);
        for (Index c = 0; c < colours; ++c)
            for (Index f = first(c); f < first(c + 1); ++f) features_of[c].push_back(f);
        return features_of;
    }
    const Index features, colours;

private:
    std::vector<Index> firsts_;
};

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
