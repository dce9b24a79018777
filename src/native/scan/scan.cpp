// A network visited position by position. Compiled twice for each instruction set: on floats, and on integers.

#include "scan/scan.hpp"

#include <stdexcept>

#include "scan/distribution.hpp"
#include "scan/frequencies.hpp"
#include "scan/layers/layers.hpp"
#include "tasks.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

using Distribution = pixelrnn::Distribution<Real>;

constexpr Index PART = 32;  // images of a task

// A task has a part of the batch to itself for the whole scan, and takes it through all layers, wave after wave.
class NetworkScan final : public Scan {
public:
    NetworkScan(const Network& network, const ScanSize& size, int threads)
        : layout_{size, network.colours}, arithmetic_(network), head_(network.head), threads_(threads),
          widths_(static_cast<std::size_t>(network.registers), 0), rectified_(static_cast<std::size_t>(network.registers), false) {
        for (const Instruction& i : network.instructions) {
            const Layer& layer = *layers_.emplace_back(make_layer(i, layout_));
            const Room room = layer.room();
            room_ = {std::max(room_.gathered, room.gathered), std::max(room_.terms, room.terms), std::max(room_.sums, room.sums)};
            widths_[i.output] = i.outputs;
            if (i.rectify)
                for (const Index input : i.inputs) rectified_[input] = true;
            last_ = i.output;
        }
    }

    Index state_size() const override { return layout_.state_size; }

    void begin(Index batch, const Real* conditioning) override {
        Interrupts interrupts;
        ready_ = false;
        parts_.clear();  // before new ones take as much memory
        const Index images = std::max<Index>(1, std::min(PART, (batch + threads_ - 1) / threads_));
        for (Index first = 0; first < batch; first += images) {
            interrupts.check();
            parts_.push_back(make_part(first, std::min(images, batch - first), conditioning));
        }
        reserved_ = 0;
        reserve(layout_.in_flight());
        ready_ = true;
    }

    void step(const std::int64_t* images, Positions positions, Index colour, Real* logits) override {
        Interrupts interrupts;
        reserve(positions.count);
        each_part(interrupts, [&](Part& part) {
            Distribution distribution(head_);
            part.symbols = images;
            part.positions.clear();
            for (Index n = 0; n < positions.count; ++n) part.positions.push_back({positions.rows[n], positions.cols[n]});
            part.locate(layout_.views);
            const Real* outputs = compute(part, colour);
            part.each([&](const Visit& visit) {
                read(distribution, part, visit, outputs, colour, 1);
                Real* to = logits + (part.first + visit.b) * head_.levels * positions.count + visit.n;
                for (Index k = 0; k < head_.levels; ++k) to[k * positions.count] = static_cast<Real>(distribution.logit(k));
            });
        });
    }

    void finish_row(Index row) override {
        Interrupts interrupts;
        each_part(interrupts, [&](Part& part) { finish_row(part, row); });
    }

    void follow(const std::int64_t* images, Index first, Index end, Real* logits) override {
        Interrupts interrupts;
        const Index batch = parts_.empty() ? 0 : parts_.back().first + parts_.back().images;
        each_part(interrupts, [&](Part& part) {
            Distribution distribution(head_);
            part.symbols = images;
            Real* of_colour = logits;
            for (Index wave = first; wave < end; ++wave) {
                interrupts.check();
                go_to(part, wave);
                for (Index colour = 0; colour < layout_.colours; ++colour, of_colour += batch * part.count() * head_.levels) {
                    const Real* outputs = compute(part, colour);
                    part.each([&](const Visit& visit) {
                        read(distribution, part, visit, outputs, colour, 1);
                        Real* to = of_colour + ((part.first + visit.b) * part.count() + visit.n) * head_.levels;
                        for (Index k = 0; k < head_.levels; ++k) to[k] = static_cast<Real>(distribution.logit(k));
                    });
                }
                finish_wave(part);
            }
        });
    }

    bool decode(std::int64_t* images, Index first, Index end, const bool* free, RangeDecoder& decoder,
                const std::int64_t* exponentials, Index count) override {
        Interrupts interrupts;
        Frequencies frequencies(head_.levels, exponentials, count);
        for (Index wave = first; wave < end; ++wave) {
            for (Index colour = 0; colour < layout_.colours; ++colour) {
                each_part(interrupts, [&](Part& part) {
                    part.symbols = images;
                    if (colour == 0) go_to(part, wave);
                    compute(part, colour);
                });
                if (!decode_colour(images, colour, free, decoder, frequencies) || decoder.overrun()) return false;
            }
            each_part(interrupts, [&](Part& part) { finish_wave(part); });
        }
        return true;
    }

    void run(std::int64_t* images, Index first, Index end, const Drawing& drawing) override {
        Interrupts interrupts;
        each_part(interrupts, [&](Part& part) {
            Distribution distribution(head_);
            part.symbols = images;
            for (Index wave = first; wave < end; ++wave) {
                interrupts.check();
                go_to(part, wave);
                for (Index colour = 0; colour < layout_.colours; ++colour) draw(part, colour, images, drawing, distribution);
                finish_wave(part);
            }
        });
    }

    void reorder(const std::int64_t* from) override {
        check_ready();
        Interrupts interrupts;
        std::vector<std::vector<Real>> before;
        for (const Part& part : parts_) {
            interrupts.check();
            before.emplace_back(part.state.get(), part.state.get() + part.images * part.state_size);
        }
        for (Part& part : parts_)
            for (Index b = 0; b < part.images; ++b) {
                const Index source = from[part.first + b], images = parts_[0].images;
                const Real* state = before[source / images].data() + source % images * part.state_size;
                copy_row(part.state_of(b), state, part.state_size);
            }
    }

private:
    // A call that ends early leaves states of several waves, and perhaps no room: no later call can go on from there.
    void check_ready() const {
        if (!ready_) throw std::logic_error("a scan that was not begun, or that ended early, cannot go on: begin it");
    }

    template <typename Run>
    void each_part(Interrupts& interrupts, Run run) {
        check_ready();
        ready_ = false;
        run_tasks(static_cast<Index>(parts_.size()), threads_, interrupts, [&](Index n) { run(parts_[n]); });
        ready_ = true;
    }

    Part make_part(Index first, Index images, const Real* conditioning) const {
        Part part{first, images, layout_.size.height, layout_.size.width, layout_.colours, &arithmetic_, conditioning};
        for (std::size_t n = 0; n < widths_.size(); ++n) part.registers.emplace_back(widths_[n], rectified_[n]);
        part.state_size = layout_.state_size;
        part.state = allocate(images * part.state_size);
        for (const auto& layer : layers_) layer->begin(part);
        return part;
    }

    // Make room for so many positions at a time.
    void reserve(Index count) {
        if (count <= reserved_) return;
        reserved_ = 0;
        for (Part& part : parts_) {
            // A recurrence from the right runs over a whole row.
            const Index rows = count * part.images, most = std::max(count, part.width) * part.images;
            part.positions.reserve(static_cast<std::size_t>(count));
            part.offsets.resize(static_cast<std::size_t>(rows * layout_.views.count()));
            part.gathered = allocate(rows * room_.gathered);
            part.sums = allocate(rows * room_.sums);
            part.terms.resize(static_cast<std::size_t>(most * room_.terms));
            for (auto* pointers : {&part.cell_from, &part.added}) pointers->resize(static_cast<std::size_t>(most));
            for (auto* pointers : {&part.hidden_to, &part.cell_to}) pointers->resize(static_cast<std::size_t>(most));
            for (Register& each : part.registers) each.reserve(rows);
        }
        reserved_ = count;
    }

    void go_to(Part& part, Index wave) const {
        const auto [height, width, slope] = layout_.size;
        part.positions.clear();
        for (Index row = std::max<Index>(0, (wave - width + slope) / slope); row < height && wave - slope * row >= 0; ++row)
            part.positions.push_back({row, wave - slope * row});
        part.locate(layout_.views);
    }

    // Finish the row that is complete after a wave, if there is one.
    void finish_wave(Part& part) const {
        if (part.count() > 0 && part.positions[0].col == part.width - 1) finish_row(part, part.positions[0].row);
    }
    void finish_row(Part& part, Index row) const {
        for (const auto& layer : layers_) layer->finish_row(part, row);
    }

    // Outputs of a colour, those of a row after those of all colours of the row before it.
    const Real* compute(Part& part, Index colour) const {
        for (const auto& layer : layers_) layer->step(part, colour);
        return outputs(part, 0, colour);
    }
    const Real* outputs(const Part& part, Index m, Index colour) const { return part.registers[last_].at(m) + colour * head_.outputs; }

    // Read the distribution of a symbol, from what `compute` gave.
    void read(Distribution& distribution, const Part& part, const Visit& visit, const Real* outputs, Index colour, double temperature) const {
        const Index area = part.height * part.width, pixel = visit.row * part.width + visit.col;
        const std::int64_t* symbols = part.symbols + (part.first + visit.b) * layout_.colours * area + pixel;
        distribution.read(outputs + visit.m * layout_.colours * head_.outputs, colour, symbols, area, temperature);
    }

    // Compute a colour of the positions that a part is at, and draw what is not known.
    void draw(Part& part, Index colour, std::int64_t* images, const Drawing& drawing, Distribution& distribution) const {
        const Index area = part.height * part.width;
        const Real* outputs = compute(part, colour);
        part.each([&](const Visit& visit) {
            const Index image = part.first + visit.b, pixel = visit.row * part.width + visit.col;
            const Index element = (image * layout_.colours + colour) * area + pixel;
            const bool keep = drawing.known != nullptr && drawing.known[image * area + pixel];
            if (keep && drawing.log_prob == nullptr) return;
            read(distribution, part, visit, outputs, colour, drawing.temperature);
            if (!keep) images[element] = distribution.draw(drawing.uniform[element]);
            if (drawing.log_prob != nullptr) drawing.log_prob[element] = distribution.log_prob(images[element]);
        });
    }

    // Decode a colour of the positions that all parts are at, from computed outputs. Returns false if there is no such symbol.
    bool decode_colour(std::int64_t* images, Index colour, const bool* free, RangeDecoder& decoder, Frequencies& frequencies) const {
        const Index area = layout_.size.height * layout_.size.width;
        for (const Part& part : parts_)
            for (Index b = 0; b < part.images; ++b)
                for (Index n = 0; n < part.count(); ++n) {
                    const Index pixel = part.positions[n].row * part.width + part.positions[n].col;
                    if (!free[pixel]) continue;
                    const std::int64_t symbol = decoder.decode(frequencies.of(outputs(part, n * part.images + b, colour)));
                    if (symbol < 0) return false;
                    images[((part.first + b) * layout_.colours + colour) * area + pixel] = symbol;
                }
        return true;
    }

    Layout layout_;
    Arithmetic arithmetic_;
    Head head_;
    Index last_ = 0, reserved_ = 0;
    int threads_;
    bool ready_ = false;            // whether the state is that of a position, and there is room
    Room room_;                     // the most that any layer needs
    std::vector<Index> widths_;     // of registers
    std::vector<bool> rectified_;   // whether anybody reads max(0, x) of them
    std::vector<std::unique_ptr<Layer>> layers_;
    std::vector<Part> parts_;
};

std::unique_ptr<Scan> create(const Network& network, const ScanSize& size, int threads) {
    return std::make_unique<NetworkScan>(network, size, threads);
}

}  // namespace

extern const ScanKernel scan;
const ScanKernel scan = {create};

}  // namespace pixelrnn::PIXELRNN_ISA
