// The recurrences of the paper on float32: what the kernel takes, and where the pieces of a call lie in memory.
//
// Letters: B batch, H rows, W columns, F input features, h features of the LSTM, D directions, T neighbours,
// S taps of the input-to-state map.

#pragma once

#include <cstddef>

namespace pixelrnn {

using Index = std::ptrdiff_t;

// Maps: element (b, row, col, f) is at data[((b * height + row) * width + col) * features + f].
template <typename Float>
struct Map {
    Float* data;
    Index height, width, features;
    Float* at(Index b, Index row, Index col) const { return data + ((b * height + row) * width + col) * features; }
};

// Direction 0 scans from the left. Direction 1, if there is one, scans from the right, and its map is added one row
// further down, below a first row of initial states. The sum h of both is the output; or, with a projection,
// out_weight · h + out_bias, to which x is added if `residual`.
struct Problem {
    Index batch, height, width, features, hidden, directions;
    Index neighbours;  // T
    Index taps;        // S, the last of which is the position itself
    Index outputs;     // of the projection; 0 if there is none
    Index together;    // images that a task scans together, at least 1: `saved` lies in memory in parts of so many
    bool diagonal;     // fronts are diagonals (T = 2, S = 1), not rows
    bool residual;
    bool halves;                // multiply bfloat16, as amx.hpp does; F and h are multiples of 64

    const float* x;             // (B, H, W, F)
    const float* input_weight;  // (D, 4h, F, S), gates in the order o, f, i, g
    const float* input_bias;    // (D, 4h)
    const float* weight;        // (D, 4h, h, T)
    const float* hidden_init;   // (D, h)
    const float* cell_init;     // (D, h)
    const float* out_weight;    // (outputs, h)
    const float* out_bias;      // (outputs)
};

struct Gradients {
    const float* output;
    const float* saved;
    float *x, *input_weight, *input_bias, *weight, *hidden_init, *cell_init, *out_weight, *out_bias;
};

// One instruction set's build of the recurrence.
struct RecurrentKernel {
    // Floats an image that `forward` keeps for `backward` and `states`. They must be of the same build, and have the same
    // `together`; numbers of threads may differ.
    Index (*saved_size)(const Problem&);
    // `saved` is null if no gradient will be asked for.
    void (*forward)(const Problem&, float* output, float* saved, int threads);
    void (*backward)(const Problem&, const Gradients&, int threads);
    // Hidden and cell states as (D, B, H, W, h), from what `forward` kept; direction 1 is mirrored back, not shifted.
    void (*states)(const Problem&, const float* saved, float* hidden, float* cell);
};

}  // namespace pixelrnn
