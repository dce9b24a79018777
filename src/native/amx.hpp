// Products of bfloat16 matrices by the tile registers of x86 processors that have AMX; sums are float32.

#pragma once

#include <cstdint>

#include "front_lstm.hpp"

namespace pixelrnn::amx {

using Half = std::uint16_t;  // the bits of a bfloat16

constexpr Index ROWS = 16;    // of a tile: products are of whole tiles
constexpr Index DEPTH = 32;   // halves in a row of a tile: depths are multiples
constexpr Index PANEL = 64;   // columns of a right matrix

// A part of the left matrix: row m, column k is at left[m · step + k].
struct Term {
    const Half* left;
    Index step, depth;
};

// Whether the processor has the instructions, and the system lets this process use them.
bool available();

// Everything below is only for processors on which it is available.

// c (rows × PANEL, of `step` floats a row) = terms, side by side, · right; or added to c. `rows` is a multiple of ROWS;
// `right` is as `interleave` leaves it.
void multiply(float* c, Index step, Index rows, const Term* terms, Index count, const Half* right, bool add);

// Round to nearest.
void round(Half* to, const float* from, Index count);

// Rows of PANEL floats as a right matrix: pairs of rows, [row / 2][column][row % 2]; zeros up to `padded` rows.
void interleave(Half* to, const float* from, Index rows, Index padded);

// The transpose of rows of `step` floats, as a left matrix of `columns` (a multiple of 16) rows of `padded` (a multiple of
// DEPTH) halves: zeros after `rows`.
void transpose(Half* to, const float* from, Index step, Index rows, Index columns, Index padded);

}  // namespace pixelrnn::amx
