// Products of bfloat16 matrices by the tile registers of x86 processors that have AMX; sums are float32.

#pragma once

#include <cstdint>

#include "front_lstm.hpp"

namespace pixelrnn::amx {

using Half = std::uint16_t;  // the bits of a bfloat16

constexpr Index ROWS = 16;     // of a tile: products are of whole tiles
constexpr Index DEPTH = 32;    // halves in a row of a tile: depths are multiples
constexpr Index COLUMNS = 32;  // of two tiles: widths of right matrices are multiples

// A part of the left matrix: row m, column k is at left[m · step + k].
struct Term {
    const Half* left;
    Index step, depth;
};

// Whether the processor has the instructions, and the system lets this process use them.
bool available();

// Everything below is only for processors on which it is available.

// c (rows × width, of `step` floats a row) = terms, side by side, · right; or added to c. `rows` is a multiple of ROWS;
// `right` is as `interleave` leaves it.
void multiply(float* c, Index step, Index rows, const Term* terms, Index count, const Half* right, Index width, bool add);

// Round to nearest, or max(0, x).
void round(Half* to, const float* from, Index count, bool rectify = false);

// Rows of `width` (a multiple of COLUMNS) numbers, `step` from row to row, as a right matrix: pairs of rows,
// [row / 2][column][row % 2]; zeros up to `padded` rows.
void interleave(Half* to, const float* from, Index step, Index width, Index rows, Index padded);
void interleave(Half* to, const Half* from, Index step, Index width, Index rows, Index padded);

// The transpose of rows of `columns` (a multiple of 16) numbers, `step` from row to row, as rows of `padded` (a multiple of
// DEPTH) halves: zeros after `rows`. They are `to_step` halves apart.
void transpose(Half* to, Index to_step, const float* from, Index step, Index rows, Index columns, Index padded);
void transpose(Half* to, Index to_step, const Half* from, Index step, Index rows, Index columns, Index padded);

}  // namespace pixelrnn::amx
