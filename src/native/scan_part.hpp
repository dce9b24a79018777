// What the layers of a scan work with: the part of the batch of a task, the maps it remembers, and products over rows that
// lie anywhere.

#pragma once

#include "arithmetic.hpp"
#include "product.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// Features of a colour: f has colour ⌊f · C / F⌋.
class Groups {
public:
    Groups(Index features, Index colours) : features(features), colours(colours) {
        for (Index c = 0; c <= colours; ++c) firsts_.push_back((c * features + colours - 1) / colours);
    }
    Index first(Index colour) const { return firsts_[colour]; }
    Index count(Index colour) const { return firsts_[colour + 1] - firsts_[colour]; }
    // The features of each colour.
    std::vector<std::vector<Index>> features_of() const {
        std::vector<std::vector<Index>> found(colours);
        for (Index c = 0; c < colours; ++c)
            for (Index f = first(c); f < first(c + 1); ++f) found[c].push_back(f);
        return found;
    }
    const Index features, colours;

private:
    std::vector<Index> firsts_;
};

// Where, seen from a position, something lies in maps of which a few rows are kept.
struct View {
    Index rows, width, features;  // of the maps
    Index back, shift;            // so many rows above the position (less than there are), and columns to the right of it

    bool operator==(const View& o) const {
        return rows == o.rows && width == o.width && features == o.features && back == o.back && shift == o.shift;
    }
    Index place(Index row, Index col) const { return ((row + rows - back) % rows * width + col + shift) * features; }
};

// The views that layers have. Layers of a kind have the same, so places are computed once a wave, not once a layer.
class Views {
public:
    Index of(const View& view) {
        const auto found = std::find(views_.begin(), views_.end(), view);
        if (found != views_.end()) return found - views_.begin();
        views_.push_back(view);
        return static_cast<Index>(views_.size()) - 1;
    }
    Index count() const { return static_cast<Index>(views_.size()); }
    const View& operator[](Index view) const { return views_[view]; }

private:
    std::vector<View> views_;
};

// What a layer is made for.
struct Layout {
    ScanSize size;
    Index colours;
    Views views;

    // Rows that are unfinished at the same time.
    Index in_flight() const { return std::min(size.height, (size.width - 1) / size.slope + 1); }
};

// A position that is visited, for an image: its register row m, the image b, and its number n among the positions.
struct Here {
    Index m, b, n, row, col;
};

// Features of the positions of a part, and where each row lies. The layers that apply a ReLU first read max(0, x), which is
// written beside x.
struct Register {
    Index features;
    Buffer data, positive;  // null: nobody reads it
    std::vector<const Real*> rows, positive_rows;

    Register(Index features, bool rectified) : features(features), rectified_(rectified) {}
    void reserve(Index count) {
        fill(count, data, rows);
        if (rectified_) fill(count, positive, positive_rows);
    }
    Real* at(Index m) const { return data.get() + m * features; }
    // Write max(0, x) of so many rows, if anybody reads it.
    void rectify(Index count) const {
        if (positive != nullptr) rectify_row(positive.get(), data.get(), count * features);
    }
    const Real* const* rows_of(bool rectified) const { return rectified ? positive_rows.data() : rows.data(); }

private:
    void fill(Index count, Buffer& buffer, std::vector<const Real*>& starts) const {
        buffer = allocate(count * features);
        std::fill(buffer.get(), buffer.get() + count * features, Real{});
        starts.clear();
        for (Index m = 0; m < count; ++m) starts.push_back(buffer.get() + m * features);
    }
    bool rectified_;
};

// Features of a register that a layer writes: from one on, so many.
struct Target {
    Real *to, *positive;  // `positive` may be null
    const Real* base;     // what is added, of the same lines; null: nothing
    Index line, columns;
    bool rounds;           // whether sums become features, or go on as gates

    Target(const Register& output, const Register* other, Index first, Index columns)
        : to(output.at(0) + first), positive(output.positive == nullptr ? nullptr : output.positive.get() + first),
          base(other == nullptr ? nullptr : other->at(0) + first), line(output.features), columns(columns), rounds(true) {}
    Target(Real* sums, Index columns) : to(sums), positive(nullptr), base(nullptr), line(columns), columns(columns), rounds(false) {}

    // A vector of row m, without what is added.
    INLINE void put(Index m, Index n, Vec feature) const {
        const Index element = m * line + n, rest = columns - n;
        if (base != nullptr) feature += load_columns(base + element, rest);
        store_columns(to + element, feature, rest);
        if (positive != nullptr) store_columns(positive + element, max_with_zero(feature), rest);
    }
};

// The part of the batch that a task has, and the positions it is at. Rows of its registers are (position n of those
// visited together, image b of the part): m = n · images + b.
struct Part {
    Index first, images, height, width, colours;
    Index count = 0;
    std::vector<Index> rows, cols;
    std::vector<Index> places;  // of each view, in the state of the part, for each row of the registers
    const Arithmetic* arithmetic = nullptr;
    const std::int64_t* symbols = nullptr;
    const Real* conditioning = nullptr;  // of the whole batch, at the beginning of a scan
    std::vector<Register> registers;
    Buffer left, sums, state;
    std::vector<const Real*> from;          // rows of the terms of a product
    std::vector<Real*> h_to, c_to;           // and of what a recurrent layer reads and writes beside it
    std::vector<const Real*> c_from, added;
    Index state_size = 0;

    Index size() const { return count * images; }
    Real* of_image(Index b) const { return state.get() + b * state_size; }
    // Call run(here) for each row of the registers.
    template <typename Run>
    INLINE void each(Run run) const {
        for (Index n = 0, m = 0; n < count; ++n)
            for (Index b = 0; b < images; ++b, ++m) run(Here{m, b, n, rows[n], cols[n]});
    }
    // When rows and columns are known.
    void locate(const Views& views) {
        Index* to = places.data();
        for (Index view = 0; view < views.count(); ++view)
            for (Index n = 0; n < count; ++n) {
                const Index place = views[view].place(rows[n], cols[n]);
                for (Index b = 0; b < images; ++b) *to++ = place + b * state_size;
            }
    }
    const Index* places_of(Index view) const { return places.data() + view * size(); }
};

// Maps of an image of which a few rows are kept, inside columns that stay as they are.
struct Ring {
    Index rows, width, features, before;  // columns before the first of the map
    Index at, size;                       // in the state of an image

    Ring(Index rows, Index width, Index features, Index before, Index after, Index at)
        : rows(rows), width(width + before + after), features(features), before(before), at(at),
          size(rows * this->width * features) {}
    Index view(Views& views, Index back, Index shift) const { return views.of({rows, width, features, back, before + shift}); }
    // Call run(m, cell) with what a view sees from each position.
    template <typename Run>
    INLINE void each(const Part& part, Index view, Run run) const {
        Real* const start = part.state.get() + at;
        const Index* const places = part.places_of(view);
        for (Index m = 0; m < part.size(); ++m) run(m, start + places[m]);
    }
    // Column `col` of a row, which may be as far below 0 as there are spare rows.
    Real* cell(const Part& part, Index b, Index row, Index col) const {
        return part.of_image(b) + at + ((row + rows) % rows * width + col + before) * features;
    }
    void fill(const Part& part, Index b, const Real* values) const {
        Real* to = part.of_image(b) + at;
        for (Index n = 0; n < rows * width; ++n, to += features) {
            if (values == nullptr) {
                std::fill(to, to + features, Real{});
            } else {
                std::copy(values, values + features, to);
            }
        }
    }
};

// Rows of a tile of N vectors of columns: as many as there are registers for, as all weights are read for each tile; one is
// left for a scalar of the left matrix.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr Index REGISTERS = 32;
#else
constexpr Index REGISTERS = 16;
#endif
template <Index N>
constexpr Index ROWS = std::min<Index>(14, (REGISTERS - 1 - N) / N);

// Where the weights of a column of the left matrix are: that of row r of the weights is from[r · step].
struct Column {
    const Real* from;
    Index step;
};

// Append those of taps of so many features: (rows, features, taps), as tap after tap, each with all features.
inline void append_taps(std::vector<Column>& columns, const Real* weight, Index features, Index taps) {
    for (Index tap = 0; tap < taps; ++tap)
        for (Index f = 0; f < features; ++f) columns.push_back({weight + f * taps + tap, features * taps});
}

// Weights of a sum over terms, for each colour by itself.
struct Weights {
    std::vector<Index> terms;  // numbers of each
    std::vector<Packed> weight, bias;

    // `outputs` are the rows of the weights that a colour computes, -1 for padding; `bias_from` may be null.
    Weights(const std::vector<Index>& terms, const std::vector<Column>& columns, const std::vector<std::vector<Index>>& outputs,
            const Real* bias_from)
        : terms(terms) {
        for (const std::vector<Index>& rows : outputs) {
            const Index count = static_cast<Index>(rows.size());
            weight.emplace_back(static_cast<Index>(columns.size()), count, [&](Index k, Index n) {
                return rows[n] < 0 ? Real{} : columns[k].from[rows[n] * columns[k].step];
            });
            bias.emplace_back(1, count, [&](Index, Index n) { return rows[n] < 0 || bias_from == nullptr ? Real{} : bias_from[rows[n]]; });
        }
    }

    Index padded(Index colour) const { return weight[colour].padded; }

    // The sums of so many rows. Row m of the left matrix is terms[0] numbers from from[m], terms[1] numbers
    // from from[rows + m], and so on. They are in one order whatever the tile is: a position has the same bits in any wave.
    void run(Index colour, Index rows, const Real* const* from, const Target& target, const Part& part) const {
        if (target.columns % V == 0) {
            multiply(colour, rows, from, target);
            return;
        }
        const Index line = padded(colour);
        multiply(colour, rows, from, {part.sums.get(), line});
        for (Index m = 0; m < rows; ++m)
            for (Index n = 0; n < target.columns; n += V) target.put(m, n, Arithmetic::feature(load(part.sums.get() + m * line + n)));
    }

private:
    void multiply(Index colour, Index rows, const Real* const* from, const Target& target) const {
        for_groups(padded(colour), [&](auto vectors, Index first) __attribute__((always_inline)) {
            constexpr Index N = decltype(vectors)::value;
            const Real* right = weight[colour].group(first);
            if constexpr (N > 2) {
                if (rows > ROWS<N>) {  // two vectors at a time, of more rows
                    multiply_columns<2>(colour, rows, from, right, N * V, first, target);
                    multiply_columns<N - 2>(colour, rows, from, right + 2 * V, N * V, first + 2 * V, target);
                    return;
                }
            }
            multiply_columns<N>(colour, rows, from, right, N * V, first, target);
        });
    }

    template <Index N>
    void multiply_columns(Index colour, Index rows, const Real* const* from, const Real* right, Index step, Index first,
                          const Target& target) const {
        const Real* start = bias[colour].data.get() + first;  // of one row: the groups lie one after the other
        constexpr Index most = ROWS<N>;
        const Index tiles = (rows + most - 1) / most;  // of like size
        for (Index tile = 0; tile < tiles; ++tile) {
            const Index m = rows * tile / tiles, count = rows * (tile + 1) / tiles - m;
            (this->*tiles_of<N>(std::make_integer_sequence<Index, most>{})[count - 1])(rows, from + m, right, step, start,
                                                                                       m * target.line + first, target);
        }
    }

    using Tile = void (Weights::*)(Index, const Real* const*, const Real*, Index, const Real*, Index, const Target&) const;
    // `multiply_tile` for 1, 2, … rows.
    template <Index N, Index... M>
    static const Tile* tiles_of(std::integer_sequence<Index, M...>) {
        static constexpr Tile tiles[] = {&Weights::multiply_tile<M + 1, N>...};
        return tiles;
    }

    template <Index M, Index N>
    void multiply_tile(Index rows, const Real* const* from, const Real* right, Index step, const Real* start, Index at,
                       const Target& target) const {
        Vec acc[M][N];
        for_vectors<M, N>([&](Index m, Index n) __attribute__((always_inline)) { acc[m][n] = load(start + n * V); });
        for (const Index depth : terms) {
            const Real* left[M];
#pragma GCC unroll 16
            for (Index m = 0; m < M; ++m) left[m] = from[m];
            for (Index k = 0; k < depth; ++k, right += step) {
                Vec vectors[N];
#pragma GCC unroll 8
                for (Index n = 0; n < N; ++n) {
                    vectors[n] = load(right + n * V);
                    // Of large networks weights come from far; one row does not work long enough on them for it to help.
                    if (M > 1) __builtin_prefetch(right + 12 * step + n * V);
                }
#pragma GCC unroll 16
                for (Index m = 0; m < M; ++m) {
                    const Vec scalar = broadcast(left[m][k]);
#pragma GCC unroll 8
                    for (Index n = 0; n < N; ++n) acc[m][n] += scalar * vectors[n];
                }
            }
            from += rows;
        }
        if (target.rounds)
            for_vectors<M, N>([&](Index m, Index n) __attribute__((always_inline)) { acc[m][n] = Arithmetic::feature(acc[m][n]); });
        if (target.base != nullptr)
            for_vectors<M, N>([&](Index m, Index n) __attribute__((always_inline)) { acc[m][n] += load(target.base + at + m * target.line + n * V); });
        for_vectors<M, N>([&](Index m, Index n) __attribute__((always_inline)) { store(target.to + at + m * target.line + n * V, acc[m][n]); });
        if (target.positive != nullptr)
            for_vectors<M, N>([&](Index m, Index n) __attribute__((always_inline)) {
                store(target.positive + at + m * target.line + n * V, max_with_zero(acc[m][n]));
            });
    }
};

// A layer of the network: its weights, and where its state lies in that of an image. A colour of a pixel is computed by
// the features of that colour only: those of earlier colours are in the registers already, and later ones have weight zero.
class Step {
public:
    virtual ~Step() = default;
    Index size = 0;                                // numbers of state, an image
    virtual Index left_size() const { return 0; }  // of a row, copied before they are multiplied
    virtual Index terms() const { return 0; }
    virtual Index columns() const { return 0; }    // and of a row of sums
    virtual void begin(Part&) const {}
    virtual void run(Part&, Index colour) const = 0;
    virtual void finish_row(Part&, Index /*row*/) const {}
};

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
