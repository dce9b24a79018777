// A network visited position by position. Compiled twice for each instruction set: on floats, and on integers.
//
// A task has a part of the batch to itself for the whole scan, and takes it through all layers, wave after wave.

#include "scan.hpp"

#include "distribution.hpp"
#include "scan_layers.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

using Distribution = pixelrnn::Distribution<Real>;

constexpr Index PART = 32;  // images of a task

// Frequencies of symbols from outputs that are integers, as codec/frequencies.py computes them.
class Frequencies {
public:
    Frequencies(Index levels, const std::int64_t* exponentials, Index count)
        : levels_(levels), table_(exponentials), last_(static_cast<Real>(count - 1)), found_(static_cast<std::size_t>(levels)) {}

    const std::vector<std::int64_t>& of(const Real* outputs) {
        const auto logit = [&](Index k) { return levels_ > 2 ? outputs[k] : k == 0 ? Real(0) : outputs[0]; };
        Index likely = 0;
        for (Index k = 1; k < levels_; ++k)
            if (logit(k) > logit(likely)) likely = k;
        const Real highest = logit(likely);
        std::int64_t total = 0, left = std::int64_t{1} << RangeDecoder::PRECISION;
        for (Index k = 0; k < levels_; ++k) total += found_[k] = table_[static_cast<Index>(std::min(highest - logit(k), last_))];
        const std::int64_t shared = left - levels_;
        for (Index k = 0; k < levels_; ++k) left -= found_[k] = 1 + found_[k] * shared / total;
        found_[likely] += left;
        return found_;
    }

private:
    Index levels_;
    const std::int64_t* table_;
    Real last_;
    std::vector<std::int64_t> found_;
};

class NetworkScan final : public Scan {
public:
    NetworkScan(const Network& network, const ScanSize& size, int threads)
        : layout_{size, network.colours, {}}, arithmetic_(network), head_(network.head), threads_(threads), widths_(static_cast<std::size_t>(network.registers), 0),
          rectified_(static_cast<std::size_t>(network.registers), false) {
        for (const Instruction& i : network.instructions) {
            steps_.push_back(make_step(i, layout_, state_size_));
            state_size_ += steps_.back()->size;
            widths_[i.output] = i.outputs;
            if (i.rectify)
                for (const Index input : i.inputs) rectified_[input] = true;
            last_ = i.output;
        }
    }

    Index state_size() const override { return state_size_; }

    void begin(Index batch, const Real* conditioning) override {
        parts_.clear();
        const Index images = std::max<Index>(1, std::min(PART, (batch + threads_ - 1) / threads_));
        for (Index first = 0; first < batch; first += images) {
            Part& part = parts_.emplace_back();
            part.first = first;
            part.images = std::min(images, batch - first);
            part.height = layout_.size.height;
            part.width = layout_.size.width;
            part.colours = layout_.colours;
            part.arithmetic = &arithmetic_;
            for (std::size_t n = 0; n < widths_.size(); ++n) part.registers.emplace_back(widths_[n], rectified_[n]);
            part.state_size = state_size_;
            part.state = allocate(part.images * state_size_);
            part.conditioning = conditioning;
            for (const auto& step : steps_) step->begin(part);
        }
        reserved_ = 0;
        reserve(layout_.in_flight());
    }

    void step(const std::int64_t* images, Positions positions, Index colour, Real* logits) override {
        reserve(positions.count);
        each_part([&](Part& part) {
            Distribution distribution(head_);
            part.symbols = images;
            part.count = positions.count;
            for (Index n = 0; n < positions.count; ++n) {
                part.rows[n] = positions.rows[n];
                part.cols[n] = positions.cols[n];
            }
            part.locate(layout_.views);
            const Real* from = compute(part, colour);
            part.each([&](const Here& here) {
                read(distribution, part, here, from, colour, 1);
                Real* to = logits + (part.first + here.b) * head_.levels * positions.count + here.n;
                for (Index k = 0; k < head_.levels; ++k) to[k * positions.count] = static_cast<Real>(distribution.logit(k));
            });
        });
    }

    void finish_row(Index row) override {
        each_part([&](Part& part) {
            for (const auto& step : steps_) step->finish_row(part, row);
        });
    }

    void follow(const std::int64_t* images, Index first, Index end, Real* logits) override {
        const Index batch = parts_.empty() ? 0 : parts_.back().first + parts_.back().images;
        each_part([&](Part& part) {
            Distribution distribution(head_);
            part.symbols = images;
            Real* to = logits;
            for (Index wave = first; wave < end; ++wave) {
                place(part, wave);
                for (Index colour = 0; colour < layout_.colours; ++colour, to += batch * part.count * head_.levels) {
                    const Real* from = compute(part, colour);
                    part.each([&](const Here& here) {
                        read(distribution, part, here, from, colour, 1);
                        Real* own = to + ((part.first + here.b) * part.count + here.n) * head_.levels;
                        for (Index k = 0; k < head_.levels; ++k) own[k] = static_cast<Real>(distribution.logit(k));
                    });
                }
                finish_wave(part);
            }
        });
    }

    bool decode(std::int64_t* images, Index first, Index end, const bool* free, RangeDecoder& decoder,
                const std::int64_t* exponentials, Index count) override {
        const Index colours = layout_.colours, area = layout_.size.height * layout_.size.width;
        Frequencies frequencies(head_.levels, exponentials, count);
        bool right = true;
        for (Index wave = first; wave < end; ++wave) {
            for (Index colour = 0; colour < colours; ++colour) {
                each_part([&](Part& part) {
                    part.symbols = images;
                    if (colour == 0) place(part, wave);
                    compute(part, colour);
                });
                for (const Part& part : parts_)
                    for (Index b = 0; b < part.images; ++b)
                        for (Index n = 0; n < part.count; ++n) {
                            const Index pixel = part.rows[n] * part.width + part.cols[n];
                            if (!free[pixel] || !right) continue;
                            const Real* outputs = part.registers[last_].at(n * part.images + b) + colour * head_.outputs;
                            const std::int64_t symbol = decoder.decode(frequencies.of(outputs));
                            right = symbol >= 0;
                            images[((part.first + b) * colours + colour) * area + pixel] = std::max<std::int64_t>(symbol, 0);
                        }
                if (!right || decoder.overrun()) return false;
            }
            each_part([&](Part& part) { finish_wave(part); });
        }
        return true;
    }

    void run(std::int64_t* images, Index first, Index end, const Drawing& drawing) override {
        each_part([&](Part& part) {
            Distribution distribution(head_);
            const Index colours = layout_.colours, area = part.height * part.width;
            part.symbols = images;
            for (Index wave = first; wave < end; ++wave) {
                place(part, wave);
                for (Index colour = 0; colour < colours; ++colour) {
                    const Real* from = compute(part, colour);
                    part.each([&](const Here& here) {
                        const Index image = part.first + here.b, pixel = here.row * part.width + here.col;
                        const Index at = (image * colours + colour) * area + pixel;
                        const bool keep = drawing.known != nullptr && drawing.known[image * area + pixel];
                        if (keep && drawing.log_prob == nullptr) return;
                        read(distribution, part, here, from, colour, drawing.temperature);
                        if (!keep) images[at] = distribution.draw(drawing.uniform[at]);
                        if (drawing.log_prob != nullptr) drawing.log_prob[at] = distribution.log_prob(images[at]);
                    });
                }
                finish_wave(part);
            }
        });
    }

    void reorder(const std::int64_t* from) override {
        std::vector<std::vector<Real>> before;
        for (const Part& part : parts_) before.emplace_back(part.state.get(), part.state.get() + part.images * part.state_size);
        for (Part& part : parts_)
            for (Index b = 0; b < part.images; ++b) {
                const Index source = from[part.first + b], images = parts_[0].images;
                const Real* state = before[source / images].data() + source % images * part.state_size;
                copy_row(part.of_image(b), state, part.state_size);
            }
    }

private:
    template <typename Run>
    void each_part(Run run) {
        Interrupts interrupts;
        run_tasks(static_cast<Index>(parts_.size()), threads_, interrupts, [&](Index n) { run(parts_[n]); });
    }

    // Room for so many positions at a time.
    void reserve(Index count) {
        if (count <= reserved_) return;
        reserved_ = count;
        for (Part& part : parts_) {
            part.rows.resize(static_cast<std::size_t>(count));
            part.cols.resize(static_cast<std::size_t>(count));
            // A recurrence from the right runs over a whole row.
            const Index rows = count * part.images, most = std::max(count, part.width) * part.images;
            Index left = 0, terms = 0, columns = 0;
            for (const auto& step : steps_) {
                left = std::max(left, step->left_size());
                terms = std::max(terms, step->terms());
                columns = std::max(columns, step->columns());
            }
            part.places.resize(static_cast<std::size_t>(rows * layout_.views.count()));
            part.left = allocate(rows * left);
            part.sums = allocate(rows * columns);
            part.from.resize(static_cast<std::size_t>(most * terms));
            for (auto* pointers : {&part.c_from, &part.added}) pointers->resize(static_cast<std::size_t>(most));
            for (auto* pointers : {&part.c_to, &part.h_to}) pointers->resize(static_cast<std::size_t>(most));
            for (Register& each : part.registers) each.reserve(rows);
        }
    }

    void place(Part& part, Index wave) const {
        const auto [height, width, slope] = layout_.size;
        part.count = 0;
        for (Index row = std::max<Index>(0, (wave - width + slope) / slope); row < height && wave - slope * row >= 0; ++row, ++part.count) {
            part.rows[part.count] = row;
            part.cols[part.count] = wave - slope * row;
        }
        part.locate(layout_.views);
    }

    // Finish the row that is complete after a wave, if there is one.
    void finish_wave(Part& part) const {
        if (part.count > 0 && part.cols[0] == part.width - 1)
            for (const auto& step : steps_) step->finish_row(part, part.rows[0]);
    }

    // Outputs of a colour, those of a row after those of all colours of the row before it.
    const Real* compute(Part& part, Index colour) const {
        for (const auto& step : steps_) step->run(part, colour);
        return part.registers[last_].at(0) + colour * head_.outputs;
    }

    // Read the distribution of a symbol, from what `compute` gave.
    void read(Distribution& distribution, const Part& part, const Here& here, const Real* outputs, Index colour, double temperature) const {
        const Index area = part.height * part.width, pixel = here.row * part.width + here.col;
        const std::int64_t* symbols = part.symbols + (part.first + here.b) * layout_.colours * area + pixel;
        distribution.read(outputs + here.m * layout_.colours * head_.outputs, colour, symbols, area, temperature);
    }

    Layout layout_;
    Arithmetic arithmetic_;
    Head head_;
    Index last_ = 0, state_size_ = 0, reserved_ = 0;
    int threads_;
    std::vector<Index> widths_;     // of registers
    std::vector<bool> rectified_;  // whether anybody reads max(0, x) of them
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
