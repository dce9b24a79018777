// A network visited position by position. Compiled once for each instruction set.
//
// A task has a part of the batch to itself for the whole scan. The rows of its registers are (position n of those visited
// together, image b of the part), row = n · images + b. A colour of a pixel is computed by the features of that colour
// only: those of earlier colours are in the registers already, and later ones have weight zero.

#include "scan.hpp"

#include <cmath>

#include "product.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

constexpr Index PART = 32;  // images of a task

// Features of a colour: f has colour ⌊f · C / F⌋.
struct Groups {
    Index features, colours;
    Index first(Index colour) const { return (colour * features + colours - 1) / colours; }
    Index count(Index colour) const { return first(colour + 1) - first(colour); }
};

// The part of a task, and the positions it is at.
struct Part {
    Index first, images, height, width, colours;
    Index count = 0;
    std::vector<Index> rows, cols;
    const std::int64_t* symbols = nullptr;
    std::vector<Buffer> registers;
    Buffer left, sums, state;
    Index state_size = 0;

    float* of_image(Index b) const { return state.get() + b * state_size; }
    // Call run(register row, image of the part, row, column).
    template <typename Run>
    void each(Run run) const {
        for (Index n = 0; n < count; ++n)
            for (Index b = 0; b < images; ++b) run(n * images + b, b, rows[n], cols[n]);
    }
};

// Weights of a sum over a left row of `depth` floats, for each colour by itself; columns are the outputs of the colour, or
// the gates of its features as [vector of features][gate][lane].
struct Weights {
    Index depth;
    std::vector<Packed> weight, bias;

    template <typename Value, typename Bias>
    Weights(Index depth, Index colours, const std::vector<Index>& columns, Value value, Bias bias_value) : depth(depth) {
        for (Index c = 0; c < colours; ++c) {
            weight.emplace_back(depth, columns[c], [&](Index k, Index n) { return value(c, k, n); });
            bias.emplace_back(1, columns[c], [&](Index, Index n) { return bias_value(c, n); });
        }
    }

    // to[m · line + n] = base + bias + left · weight; `base`, of the same lines, may be null.
    void run(Index colour, Index rows, const std::vector<Term>& left, Index columns, const float* base, float* to, Index line) const {
        multiply_terms(
            rows, columns, left, weight[colour], to, line,
            [&](Index first, Index n, Index at, Index rest) __attribute__((always_inline)) {
                const Vec start = load(bias[colour].group(first) + n * V);
                return base == nullptr ? start : start + load_columns(base + at, rest);
            },
            [](Vec sum, Index, Index) __attribute__((always_inline)) { return sum; });
    }
};

// A layer of the network: its weights, and where its state lies in that of an image.
class Step {
public:
    virtual ~Step() = default;
    Index offset = 0, size = 0;
    virtual Index depth() const { return 0; }    // floats of a row of the left matrix
    virtual Index columns() const { return 0; }  // and of the sums
    virtual void begin(Part&) const {}
    virtual void run(Part&, Index colour) const = 0;
    virtual void finish_row(Part&, Index /*row*/) const {}
};

// Maps of an image of which a few rows are kept, inside columns that stay as they are.
struct Ring {
    Index rows, width, features, before;  // columns before the first of the map
    Index at, size;

    Ring(Index rows, Index width, Index features, Index before, Index after, Index at)
        : rows(rows), width(width + before + after), features(features), before(before), at(at),
          size(rows * this->width * features) {}
    // Column `col` of a row, which may be as far below 0 as there are spare rows.
    float* cell(float* state, Index row, Index col) const {
        return state + at + (((row + rows) % rows) * width + col + before) * features;
    }
    void fill(float* state, const float* values) const {
        for (Index n = 0; n < rows * width; ++n) {
            float* to = state + at + n * features;
            if (values == nullptr) {
                std::fill(to, to + features, 0.0f);
            } else {
                std::copy(values, values + features, to);
            }
        }
    }
};

// Rows that are unfinished at the same time.
Index in_flight(const ScanSize& size) { return std::min(size.height, (size.width - 1) / size.slope + 1); }

class Convolve final : public Step {
public:
    Convolve(const Instruction& i, const ScanSize& size_of, Index colours, Index levels)
        : i_(i), out_{i.outputs, colours}, taps_(i.above * (2 * i.side + 1) + i.side + 1), scale_(2.0f / static_cast<float>(levels - 1)),
          input_(in_flight(size_of) + i.above, size_of.width, i.features, i.side, i.side, 0),
          weights_(taps_ * i.features, colours, counts(), [&](Index c, Index k, Index n) {
              return i.tensors[0][((out_.first(c) + n) * i.features + k % i.features) * taps_ + k / i.features];
          }, [&](Index c, Index n) { return i.tensors[1][out_.first(c) + n]; }) {
        if (i.layer == Layer::convolve && taps_ > 1) size = input_.size;
    }
    Index depth() const override { return taps_ * i_.features; }
    void begin(Part& part) const override {
        if (size > 0)
            for (Index b = 0; b < part.images; ++b) input_.fill(part.of_image(b) + offset, nullptr);
    }
    void run(Part& part, Index colour) const override {
        const Index rows = part.count * part.images, first = out_.first(colour);
        const float* left = part.left.get();
        if (i_.layer == Layer::first) {
            gather_symbols(part);
        } else if (taps_ > 1) {
            gather(part);
        } else if (i_.rectify) {
            rectify_row(part.left.get(), part.registers[i_.input].get(), rows * i_.features);
        } else {
            left = part.registers[i_.input].get();
        }
        const float* base = i_.other < 0 ? nullptr : part.registers[i_.other].get() + first;
        weights_.run(colour, rows, {{left, depth(), depth()}}, out_.count(colour), base,
                     part.registers[i_.output].get() + first, i_.outputs);
    }

private:
    std::vector<Index> counts() const {
        std::vector<Index> found;
        for (Index c = 0; c < out_.colours; ++c) found.push_back(out_.count(c));
        return found;
    }
    void gather(Part& part) const {
        const Index f = i_.features, whole = (2 * i_.side + 1) * f, half = (i_.side + 1) * f;
        part.each([&](Index m, Index b, Index row, Index col) {
            float* state = part.of_image(b) + offset;
            const float* x = part.registers[i_.input].get() + m * f;
            float* to = input_.cell(state, row, col);
            if (i_.rectify) {
                rectify_row(to, x, f);
            } else {
                copy_row(to, x, f);
            }
            float* left = part.left.get() + m * depth();
            for (Index r = 0; r < i_.above; ++r) copy_row(left + r * whole, input_.cell(state, row - i_.above + r, col - i_.side), whole);
            copy_row(left + i_.above * whole, input_.cell(state, row, col - i_.side), half);
        });
    }
    // Symbols are centred and scaled; outside the image there is zero.
    void gather_symbols(Part& part) const {
        const Index area = part.height * part.width, span = 2 * i_.side + 1;
        part.each([&](Index m, Index b, Index row, Index col) {
            float* left = part.left.get() + m * depth();
            const std::int64_t* image = part.symbols + (part.first + b) * part.colours * area;
            for (Index tap = 0; tap < taps_; ++tap) {
                const Index r = row - i_.above + tap / span, c = col - i_.side + tap % span;
                const bool inside = r >= 0 && c >= 0 && c < part.width;
                for (Index colour = 0; colour < part.colours; ++colour)
                    *left++ = inside ? static_cast<float>(image[colour * area + r * part.width + c]) * scale_ - 1 : 0;
            }
        });
    }

    Instruction i_;
    Groups out_;
    Index taps_;
    float scale_;
    Ring input_;
    Weights weights_;
};

constexpr Index GATES = 4;

// Columns of the gates of some features.
Index gate_columns(Index features) { return round_up(features, V) * GATES; }

std::vector<Index> gate_columns(const Groups& groups) {
    std::vector<Index> found;
    for (Index c = 0; c < groups.colours; ++c) found.push_back(gate_columns(groups.count(c)));
    return found;
}

// Which row of weights (gate · h + feature) a column of gates stands for; -1 for padding.
Index gate_row(Index column, Index first, Index count, Index hidden) {
    const Index block = column / WIDE, gate = column % WIDE / V, feature = block * V + column % V;
    return feature < count ? gate * hidden + first + feature : -1;
}

// c' = f ⊙ c + i ⊙ g and h' = o ⊙ tanh(c') for some features; `add` is added to what goes out.
INLINE void cells(const float* gates, const float* c, float* next_c, float* h, Index count, const float* add, float* output) {
    for (Index k = 0; k < count; k += V, gates += WIDE) {
        const Index rest = count - k;
        const Vec o = sigmoid(load(gates)), f = sigmoid(load(gates + V)), i = sigmoid(load(gates + 2 * V));
        const Vec next = f * load_columns(c + k, rest) + i * tanh(load(gates + 3 * V));
        const Vec hidden = o * tanh(next);
        store_columns(next_c + k, next, rest);
        store_columns(h + k, hidden, rest);
        if (output != nullptr) store_columns(output + k, add == nullptr ? hidden : hidden + load_columns(add + k, rest), rest);
    }
}

class RowLSTM final : public Step {
public:
    RowLSTM(const Instruction& i, const ScanSize& size_of, Index colours)
        : i_(i), h_(i.outputs), neighbours_(2 * i.side + 1), hidden_groups_{i.outputs, colours},
          input_(in_flight(size_of), size_of.width, i.features, i.side, 0, 0),
          hidden_(in_flight(size_of) + 1, size_of.width, h_, i.side, i.side, input_.size),
          cell_(in_flight(size_of) + 1, size_of.width, h_, 0, 0, input_.size + hidden_.size),
          hidden_init_(i.tensors[3], i.tensors[3] + h_), cell_init_(i.tensors[4], i.tensors[4] + h_),
          weights_(depth(), colours, gate_columns(hidden_groups_), [&](Index c, Index k, Index n) {
              const Index row = gate_row(n, hidden_groups_.first(c), hidden_groups_.count(c), h_), inputs = (i.side + 1) * i.features;
              if (row < 0) return 0.0f;
              if (k < inputs) return i.tensors[0][(row * i.features + k % i.features) * (i.side + 1) + k / i.features];
              return i.tensors[2][(row * h_ + (k - inputs) % h_) * neighbours_ + (k - inputs) / h_];
          }, [&](Index c, Index n) {
              const Index row = gate_row(n, hidden_groups_.first(c), hidden_groups_.count(c), h_);
              return row < 0 ? 0.0f : i.tensors[1][row];
          }) {
        size = input_.size + hidden_.size + cell_.size;
    }
    Index depth() const override { return (i_.side + 1) * i_.features + neighbours_ * h_; }
    Index columns() const override { return gate_columns(h_); }
    void begin(Part& part) const override {
        for (Index b = 0; b < part.images; ++b) {
            float* state = part.of_image(b) + offset;
            input_.fill(state, nullptr);
            hidden_.fill(state, hidden_init_.data());
            cell_.fill(state, cell_init_.data());
        }
    }
    void run(Part& part, Index colour) const override {
        const Index first = hidden_groups_.first(colour), count = hidden_groups_.count(colour), columns = gate_columns(count);
        const Index inputs = (i_.side + 1) * i_.features;
        part.each([&](Index m, Index b, Index row, Index col) {
            float* state = part.of_image(b) + offset;
            copy_row(input_.cell(state, row, col), part.registers[i_.input].get() + m * i_.features, i_.features);
            float* left = part.left.get() + m * depth();
            copy_row(left, input_.cell(state, row, col - i_.side), inputs);
            copy_row(left + inputs, hidden_.cell(state, row - 1, col - i_.side), neighbours_ * h_);
        });
        weights_.run(colour, part.count * part.images, {{part.left.get(), depth(), depth()}}, columns, nullptr, part.sums.get(), columns);
        part.each([&](Index m, Index b, Index row, Index col) {
            float* state = part.of_image(b) + offset;
            cells(part.sums.get() + m * columns, cell_.cell(state, row - 1, col) + first, cell_.cell(state, row, col) + first,
                  hidden_.cell(state, row, col) + first, count, nullptr, part.registers[i_.output].get() + m * h_ + first);
        });
    }

private:
    Instruction i_;
    Index h_, neighbours_;
    Groups hidden_groups_;
    Ring input_, hidden_, cell_;
    std::vector<float> hidden_init_, cell_init_;
    Weights weights_;
};

// The direction from the left goes along with the scan; the other one runs over a row when the row is complete, and is
// seen from the row below.
class DiagonalLSTM final : public Step {
public:
    DiagonalLSTM(const Instruction& i, const ScanSize& size_of, Index colours)
        : i_(i), h_(i.outputs), groups_{i.outputs, colours}, whole_{i.outputs, 1},
          input_(1, size_of.width, i.features, 0, 0, 0), left_(2, size_of.width, h_, 1, 0, input_.size),
          left_cell_(1, size_of.width, h_, 1, 0, left_.at + left_.size),
          right_(2, size_of.width, h_, 0, 1, left_cell_.at + left_cell_.size),
          right_cell_(1, 1, h_, 0, 0, right_.at + right_.size),
          inits_{{i.tensors[3], i.tensors[3] + 2 * h_}, {i.tensors[4], i.tensors[4] + 2 * h_}},
          weights_(depth(), colours, gate_columns(groups_),
                   [&](Index c, Index k, Index n) { return weight(i, 0, row_of(groups_, c, n), k); },
                   [&](Index c, Index n) { return bias(i, 0, row_of(groups_, c, n)); }),
          above_(i.features + h_, 1, gate_columns(whole_), [&](Index, Index k, Index n) { return weight(i, 1, row_of(whole_, 0, n), k); },
                 [&](Index, Index n) { return bias(i, 1, row_of(whole_, 0, n)); }),
          beside_(h_, 1, gate_columns(whole_),
                  [&](Index, Index k, Index n) { return weight(i, 1, row_of(whole_, 0, n), i.features + h_ + k); },
                  [](Index, Index) { return 0.0f; }),
          width_(size_of.width) {
        size = right_cell_.at + right_cell_.size;
    }
    Index depth() const override { return i_.features + 2 * h_; }
    Index columns() const override { return gate_columns(h_); }
    void begin(Part& part) const override {
        for (Index b = 0; b < part.images; ++b) {
            float* state = part.of_image(b) + offset;
            left_.fill(state, inits_[0].data());
            left_cell_.fill(state, inits_[1].data());
            right_.fill(state, inits_[0].data() + h_);
        }
    }
    void run(Part& part, Index colour) const override {
        const Index first = groups_.first(colour), count = groups_.count(colour), columns = gate_columns(count);
        part.each([&](Index m, Index b, Index row, Index col) {
            float* state = part.of_image(b) + offset;
            const float* x = part.registers[i_.input].get() + m * i_.features;
            copy_row(input_.cell(state, 0, col), x, i_.features);
            float* left = part.left.get() + m * depth();
            copy_row(left, x, i_.features);
            copy_row(left + i_.features, left_.cell(state, row - 1, col), h_);
            copy_row(left + i_.features + h_, left_.cell(state, row, col - 1), h_);
        });
        weights_.run(colour, part.count * part.images, {{part.left.get(), depth(), depth()}}, columns, nullptr, part.sums.get(), columns);
        part.each([&](Index m, Index b, Index row, Index col) {
            float* state = part.of_image(b) + offset;
            cells(part.sums.get() + m * columns, left_cell_.cell(state, 0, col - 1) + first, left_cell_.cell(state, 0, col) + first,
                  left_.cell(state, row, col) + first, count, right_.cell(state, row - 1, col) + first,
                  part.registers[i_.output].get() + m * h_ + first);
        });
    }
    void finish_row(Part& part, Index row) const override {
        const Index images = part.images, columns = gate_columns(h_);
        Buffer left = allocate(width_ * images * (i_.features + h_)), gates = allocate(width_ * images * columns);
        for (Index col = 0; col < width_; ++col)
            for (Index b = 0; b < images; ++b) {
                float* state = part.of_image(b) + offset;
                float* to = left.get() + (col * images + b) * (i_.features + h_);
                copy_row(to, input_.cell(state, 0, col), i_.features);
                copy_row(to + i_.features, right_.cell(state, row - 1, col), h_);
            }
        above_.run(0, width_ * images, {{left.get(), i_.features + h_, i_.features + h_}}, columns, nullptr, gates.get(), columns);
        for (Index b = 0; b < images; ++b) {
            const float* init = inits_[1].data() + h_;
            std::copy(init, init + h_, right_cell_.cell(part.of_image(b) + offset, 0, 0));
        }
        for (Index col = width_; col-- > 0;) {
            for (Index b = 0; b < images; ++b)
                copy_row(left.get() + b * h_, right_.cell(part.of_image(b) + offset, row, col + 1), h_);
            float* own = gates.get() + col * images * columns;
            beside_.run(0, images, {{left.get(), h_, h_}}, columns, own, own, columns);
            for (Index b = 0; b < images; ++b) {
                float* state = part.of_image(b) + offset;
                float* c = right_cell_.cell(state, 0, 0);
                cells(own + b * columns, c, c, right_.cell(state, row, col), h_, nullptr, nullptr);
            }
        }
    }

private:
    Index row_of(const Groups& groups, Index c, Index n) const { return gate_row(n, groups.first(c), groups.count(c), h_); }
    // Terms: x, the state above, the state beside.
    float weight(const Instruction& i, Index d, Index row, Index k) const {
        if (row < 0) return 0;
        if (k < i.features) return i.tensors[0][(d * GATES * h_ + row) * i.features + k];
        k -= i.features;
        return i.tensors[2][((d * GATES * h_ + row) * h_ + k % h_) * 2 + k / h_];
    }
    float bias(const Instruction& i, Index d, Index row) const { return row < 0 ? 0 : i.tensors[1][d * GATES * h_ + row]; }

    Instruction i_;
    Index h_;
    Groups groups_, whole_;
    Ring input_, left_, left_cell_, right_, right_cell_;
    std::vector<float> inits_[2];
    Weights weights_, above_, beside_;
    Index width_;
};

class Add final : public Step {
public:
    explicit Add(const Instruction& i) : i_(i) {}
    void run(Part& part, Index) const override {
        const Index floats = part.count * part.images * i_.features;
        copy_row(part.registers[i_.output].get(), part.registers[i_.input].get(), floats);
        add_row(part.registers[i_.output].get(), part.registers[i_.other].get(), floats);
    }

private:
    Instruction i_;
};

std::unique_ptr<Step> make(const Instruction& i, const Network& network, const ScanSize& size) {
    switch (i.layer) {
        case Layer::row_lstm: return std::make_unique<RowLSTM>(i, size, network.colours);
        case Layer::diagonal_lstm: return std::make_unique<DiagonalLSTM>(i, size, network.colours);
        case Layer::add: return std::make_unique<Add>(i);
        default: return std::make_unique<Convolve>(i, size, network.colours, network.levels);
    }
}

// The distribution of a symbol, up to a constant; outputs are logits, or the log-odds of symbol 1 alone.
class Distribution {
public:
    explicit Distribution(Index outputs) : outputs_(outputs), cumulative_(static_cast<std::size_t>(outputs == 1 ? 2 : outputs)) {}

    void read(const float* outputs, double temperature) {
        from_ = outputs;
        temperature_ = temperature;
        const Index levels = static_cast<Index>(cumulative_.size());
        highest_ = logit(0), total_ = 0;
        for (Index k = 1; k < levels; ++k) highest_ = std::max(highest_, logit(k));
        for (Index k = 0; k < levels; ++k) cumulative_[k] = total_ += std::exp(logit(k) - highest_);
    }
    // The symbol at which the cumulative distribution passes `uniform`.
    Index draw(double uniform) const {
        const Index last = static_cast<Index>(cumulative_.size()) - 1;
        Index symbol = 0;
        while (symbol < last && cumulative_[symbol] <= uniform * total_) ++symbol;
        return symbol;
    }
    double log_prob(Index symbol) const { return logit(symbol) - highest_ - std::log(total_); }

private:
    double logit(Index k) const { return (outputs_ == 1 ? (k == 0 ? 0.0 : from_[0]) : static_cast<double>(from_[k])) / temperature_; }

    Index outputs_;
    std::vector<double> cumulative_;
    const float* from_ = nullptr;
    double temperature_ = 1, highest_ = 0, total_ = 0;
};

class NetworkScan final : public Scan {
public:
    NetworkScan(const Network& network, const ScanSize& size, int threads)
        : size_(size), colours_(network.colours), outputs_(network.levels == 2 ? 1 : network.levels), threads_(threads) {
        Index depth = 0, columns = 0, state = 0;
        std::vector<Index> widths(static_cast<std::size_t>(network.registers), 0);
        for (const Instruction& i : network.instructions) {
            steps_.push_back(make(i, network, size));
            Step& step = *steps_.back();
            step.offset = state;
            state += step.size;
            depth = std::max(depth, step.depth());
            columns = std::max(columns, step.columns());
            widths[i.output] = std::max(widths[i.output], i.outputs);
            last_ = i.output;
        }
        depth_ = depth;
        columns_ = columns;
        widths_ = widths;
        state_size_ = state;
    }

    Index state_size() const override { return state_size_; }

    void begin(Index batch) override {
        parts_.clear();
        const Index images = std::max<Index>(1, std::min(PART, (batch + threads_ - 1) / threads_));
        for (Index first = 0; first < batch; first += images) {
            Part& part = parts_.emplace_back();
            part.first = first;
            part.images = std::min(images, batch - first);
            part.height = size_.height;
            part.width = size_.width;
            part.colours = colours_;
            part.state_size = state_size_;
            part.state = allocate(part.images * state_size_);
            for (const auto& step : steps_) step->begin(part);
        }
        reserved_ = 0;
        reserve(in_flight(size_));
    }

    void step(const std::int64_t* images, Positions positions, Index colour, float* outputs) override {
        reserve(positions.count);
        each_part([&](Part& part) {
            part.symbols = images;
            part.count = positions.count;
            for (Index n = 0; n < positions.count; ++n) {
                part.rows[n] = positions.rows[n];
                part.cols[n] = positions.cols[n];
            }
            const float* from = compute(part, colour);
            part.each([&](Index m, Index b, Index, Index) {
                const float* own = from + m * colours_ * outputs_;
                for (Index k = 0; k < outputs_; ++k)
                    outputs[((part.first + b) * outputs_ + k) * positions.count + m / part.images] = own[k];
            });
        });
    }

    void finish_row(Index row) override {
        each_part([&](Part& part) {
            for (const auto& step : steps_) step->finish_row(part, row);
        });
    }

    void run(std::int64_t* images, Index first, Index end, const Drawing& drawing) override {
        each_part([&](Part& part) {
            Distribution distribution(outputs_);
            part.symbols = images;
            for (Index wave = first; wave < end; ++wave) {
                place(part, wave);
                for (Index colour = 0; colour < colours_; ++colour) {
                    const float* outputs = compute(part, colour);
                    part.each([&](Index m, Index b, Index row, Index col) {
                        const Index image = part.first + b, pixel = row * size_.width + col, area = size_.height * size_.width;
                        const Index at = (image * colours_ + colour) * area + pixel;
                        const bool keep = drawing.known != nullptr && drawing.known[image * area + pixel];
                        if (keep && drawing.log_prob == nullptr) return;
                        distribution.read(outputs + m * colours_ * outputs_, drawing.temperature);
                        if (!keep) images[at] = distribution.draw(drawing.uniform[at]);
                        if (drawing.log_prob != nullptr) drawing.log_prob[at] = distribution.log_prob(images[at]);
                    });
                }
                if (part.count > 0 && part.cols[0] == size_.width - 1)
                    for (const auto& step : steps_) step->finish_row(part, part.rows[0]);
            }
        });
    }

    void reorder(const std::int64_t* from) override {
        std::vector<std::vector<float>> before;
        for (const Part& part : parts_) before.emplace_back(part.state.get(), part.state.get() + part.images * part.state_size);
        for (Part& part : parts_)
            for (Index b = 0; b < part.images; ++b) {
                const Index source = from[part.first + b], images = parts_[0].images;
                const float* state = before[source / images].data() + source % images * part.state_size;
                copy_row(part.of_image(b), state, part.state_size);
            }
    }

private:
    template <typename Run>
    void each_part(Run run) {
        run_tasks(static_cast<Index>(parts_.size()), threads_, [&](Index n) { run(parts_[n]); });
    }

    // Room for so many positions at a time.
    void reserve(Index count) {
        if (count <= reserved_) return;
        reserved_ = count;
        for (Part& part : parts_) {
            const Index rows = count * part.images;
            part.rows.resize(static_cast<std::size_t>(count));
            part.cols.resize(static_cast<std::size_t>(count));
            part.left = allocate(rows * depth_);
            part.sums = allocate(rows * columns_);
            part.registers.clear();
            for (const Index width : widths_) {
                part.registers.push_back(allocate(rows * width));
                std::fill(part.registers.back().get(), part.registers.back().get() + rows * width, 0.0f);
            }
        }
    }

    void place(Part& part, Index wave) const {
        part.count = 0;
        const Index first = std::max<Index>(0, (wave - size_.width + size_.slope) / size_.slope);
        for (Index row = first; row < size_.height && wave - size_.slope * row >= 0; ++row, ++part.count) {
            part.rows[part.count] = row;
            part.cols[part.count] = wave - size_.slope * row;
        }
    }

    // Outputs of a colour, those of a row after those of all colours of the row before it.
    const float* compute(Part& part, Index colour) const {
        for (const auto& step : steps_) step->run(part, colour);
        return part.registers[last_].get() + colour * outputs_;
    }

    ScanSize size_;
    Index colours_, outputs_, last_ = 0, depth_ = 0, columns_ = 0, state_size_ = 0, reserved_ = 0;
    int threads_;
    std::vector<Index> widths_;
    std::vector<std::unique_ptr<Step>> steps_;
    std::vector<Part> parts_;
};

std::unique_ptr<Scan> create(const Network& network, const ScanSize& size, int threads) {
    return std::make_unique<NetworkScan>(network, size, threads);
}

}  // namespace

extern const ScanKernel scan;
const ScanKernel scan = {create};

}  // namespace pixelrnn::PIXELRNN_ISA
