// A network visited position by position, as sampling, completion and decoding need it: on floats, or on integers held in
// doubles (`Real`).

#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "front_lstm.hpp"
#include "scan/range_decoder.hpp"

namespace pixelrnn {

// As `Kind` in kernels/program.py.
enum class Kind : Index {
    first,
    convolve,
    row_lstm,
    diagonal_lstm,
    add,
    conditioning,
    concatenate,
    multiply,
    sigmoid,
    tanh,
    relu,
    select,
};

// What a network does at a position, one after the other. Vectors of features are in numbered registers.
template <typename Real>
struct Instruction {
    Kind kind;
    std::vector<Index> inputs;  // registers; of several, a 1 × 1 convolution reads all features
    Index other;                // register: the second operand, or what is added to a convolution; -1: none
    Index output;               // register
    Index features, outputs;    // of each input, and of the output
    Index above, side;          // of the kernel; a Row LSTM sees `side` neighbours on either side; `select` starts at feature `above`
    bool rectify;               // inputs are max(0, x)
    // Weight (outputs, features of all inputs, taps) and bias of a convolution; those of `Problem` for an LSTM. They are copied.
    const Real* tensors[5];
};

// A function of the integers 0, 1, …, which is copied.
struct Lookup {
    const double* values;
    Index size;
};

// What integers need, see pixelrnn.codec.fixed_point.
struct Lookups {
    Lookup encode, sigmoid, tanh;  // the last two stay at the value of their end
};

enum class Curve : Index { none, logistic, normal };

// How the numbers of a symbol are read, see pixelrnn.heads: a softmax, or a mixture of curves.
struct Head {
    Index levels;
    Index outputs;  // numbers of a symbol
    Curve curve;
    Index means, scales;  // scales of each mean
};

template <typename Real>
struct Network {
    Index colours;
    Head head;
    Index registers;  // the last instruction writes the outputs of all colours
    std::vector<Instruction<Real>> instructions;
    const Lookups* lookups;  // null for floats
};

struct ScanSize {
    Index height, width;
    Index slope;  // positions with equal col + slope · row are visited together
};

// Positions that do not depend on each other.
struct Positions {
    Index count;
    const std::int64_t *rows, *cols;
};

// How symbols are chosen: what is known is kept, the rest is drawn at uniform numbers.
struct Drawing {
    const bool* known;      // (B, H, W); null: nothing
    const double* uniform;  // (B, C, H, W)
    double temperature;
    double* log_prob;  // (B, C, H, W) of the symbols; null: not wanted
};

// A scan of a batch, with its state. Images are (B, C, H, W). After an exception a scan must begin again.
template <typename Real>
class Scan {
public:
    virtual ~Scan() = default;
    virtual Index state_size() const = 0;  // numbers an image
    // Make the state before the first position. Conditioning is (B, H, W, c), null if the network has none; it is copied.
    virtual void begin(Index batch, const Real* conditioning) = 0;
    // Logits (B, K, N) of one colour at some positions, given all symbols before them.
    virtual void step(const std::int64_t* images, Positions positions, Index colour, Real* logits) = 0;
    virtual void finish_row(Index row) = 0;
    // Logits of waves first … end - 1, in which all symbols are known: wave by wave, colour by colour, image by image, position
    // by position, K of each.
    virtual void follow(const std::int64_t* images, Index first, Index end, Real* logits) = 0;
    // Fill in waves first … end - 1 with what is decoded, where pixels (H, W) are free; in the order of `follow`. Returns false
    // if the words are not of such images. Outputs must be integers; exponentials are those of codec/lookup.py.
    virtual bool decode(std::int64_t* images, Index first, Index end, const bool* free, RangeDecoder& decoder,
                        const std::int64_t* exponentials, Index count) = 0;
    // Visit waves first ... end - 1 and fill them in.
    virtual void run(std::int64_t* images, Index first, Index end, const Drawing& drawing) = 0;
    // Image b goes on from the state of image from[b].
    virtual void reorder(const std::int64_t* from) = 0;
};

template <typename Real>
struct ScanKernel {
    std::unique_ptr<Scan<Real>> (*create)(const Network<Real>&, const ScanSize&, int threads);
};

}  // namespace pixelrnn
