// Chains of masked convolutions, forward and backward. Compiled once for each instruction set.
//
// A task takes an image through the whole chain, so that maps are still in the second-level cache where the next line reads
// them. For a kernel with neighbours, an image is copied once into a frame of zeros: the taps of a kernel row at a position
// are then one run of floats, and a convolution is a sum of a few products, one a kernel row, in which the rows of the left
// matrix overlap.

#include "convolution_shape.hpp"
#include "half_convolution.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

constexpr Index LARGE = 1 << 18;  // sums of gradients

// How images are shared among tasks: several a thread, or one where each has much to add up at the end.
struct Share {
    Index images, count;
    Share(Index images, int threads, bool few = false)
        : images(images), count(std::min<Index>(images, threads == 1 || few ? threads : 4 * threads)) {}
    Index first(Index task) const { return images * task / count; }
};

// Maps of `features` a position inside a frame of zeros: `side` columns on either side, and rows above or below.
struct Framed {
    Index height, features, top, bottom, side, line;
    bool bare;
    Buffer data;

    Framed(const Shape& shape, Index features, Index top, Index bottom)
        : height(shape.height), features(features), top(top), bottom(bottom), side(shape.side),
          line((shape.width + 2 * shape.side) * features), bare(shape.taps == 1), data(allocate((height + top + bottom) * line)) {
        std::fill(data.get(), data.get() + (height + top + bottom) * line, 0.0f);
    }

    // The first row of the frame around a map, which is the map itself if it needs no frame; `of_map` are its features.
    const float* around(const float* from, Index columns, Index of_map, bool rectify) const {
        if (bare && of_map == features && !rectify) return from;
        // Positions of a row are side by side, unless the frame has more features than the map.
        const Index floats = of_map == features ? columns * features : of_map, steps = columns * of_map / floats;
        for (Index r = 0; r < height; ++r) {
            float* to = data.get() + (top + r) * line + side * features;
            for (Index n = 0; n < steps; ++n, to += features, from += floats) {
                if (rectify) {
                    rectify_row(to, from, floats);
                } else {
                    copy_row(to, from, floats);
                }
            }
        }
        return data.get();
    }
};

// The frames of a task: lines of the same geometry share one, as they use it one after the other. Features that only pad
// an outputs' gradient may then be those of another line; their weights are zero.
class Frames {
public:
    const Framed& of(const Shape& shape, Index features, Index top, Index bottom) {
        for (const auto& frame : frames_)
            if (frame->features == features && frame->top == top && frame->bottom == bottom && frame->side == shape.side)
                return *frame;
        return *frames_.emplace_back(std::make_unique<Framed>(shape, features, top, bottom));
    }

private:
    std::vector<std::unique_ptr<Framed>> frames_;
};

// Room of a task for the maps of an image that nobody keeps.
class Spare {
public:
    explicit Spare(Index size) : size_(size) {}
    float* take() {
        if (free_.empty()) free_.push_back(all_.emplace_back(allocate(size_)).get());
        float* map = free_.back();
        free_.pop_back();
        return map;
    }
    void give(float* map) { free_.push_back(map); }

private:
    Index size_;
    std::vector<Buffer> all_;
    std::vector<float*> free_;
};

// What both directions know of a chain.
struct Plan {
    const Chain& chain;
    Cut cut;
    std::vector<Index> features;  // of each map
    std::vector<Index> last_use;  // the line that reads it last
    Index widest;                 // floats of the largest map of an image

    explicit Plan(const Chain& chain) : chain(chain), cut(chain), features(chain.maps.size()), last_use(chain.maps.size(), -1), widest(0) {
        for (std::size_t n = 0; n < chain.lines.size(); ++n) {
            const Line& line = chain.lines[n];
            features[line.input] = line.features;
            features[line.output] = line.outputs;
            if (line.other >= 0) features[line.other] = line.outputs;
            for (const Index map : {line.input, line.other})
                if (map >= 0) last_use[map] = static_cast<Index>(n);
        }
        for (const Index each : features) widest = std::max(widest, each * cut.largest());
    }
    // A map of an image.
    template <typename Float>
    Float* of(Float* map, Index image, Index number) const {
        return map == nullptr ? nullptr : map + cut.first(image) * features[number];
    }
};

// The buffers of a task: each kind of product takes its own.
struct FloatRoom {
    Frames inputs, gradients;
};
struct Room : FloatRoom, HalfRoom {};

class Forward {
public:
    Forward(const Line& line, const Cut& cut)
        : line_(line), shape_(line, cut),
          product_(shape_.taps * line.features, line.outputs,
                   [&](Index k, Index n) { return line.weight[(n * line.features + k % line.features) * shape_.taps + k / line.features]; },
                   line.bias) {}

    // `base` may be null, or `output`.
    void run(Index positions, FloatRoom& room, const float* from, const float* base, float* output) const {
        const Framed& frame = room.inputs.of(shape_, line_.features, shape_.above, 0);
        std::vector<Term> terms(shape_.above + 1);
        shape_.panes(positions, [&](Index first, Index columns) {
            const float* x = frame.around(from + first * line_.features, columns, line_.features, line_.rectify);
            for (Index r = 0; r < shape_.height; ++r) {
                for (Index row = 0; row <= shape_.above; ++row)
                    terms[row] = {x + (r + row) * frame.line, line_.features, shape_.open(row) * line_.features};
                const Index at = (first + r * shape_.width) * line_.outputs;
                product_.run(columns, terms, base == nullptr ? nullptr : base + at, output + at);
            }
        });
    }

private:
    const Line& line_;
    Shape shape_;
    ForwardProduct product_;
};

class Backward {
public:
    Backward(const Line& line, const Cut& cut)
        : line_(line), shape_(line, cut), padded_(round_up(line.outputs, V)),
          // Kernel rows from the last to the first, each from right to left: so an input meets the outputs it went to.
          product_(shape_.taps * line.features, line.features, line.outputs, shape_.taps * padded_, [&](Index k, Index n) {
              const Index o = k % padded_;
              return o < line.outputs ? line.weight[(o * line.features + n) * shape_.taps + shape_.seen_by(k / padded_)] : 0.0f;
          }) {}
    Index sums_size() const { return product_.sums_size; }

    // `d_x` may be null, and is `base` + what this line adds; `base` may be null, or `d_x`. `sums` are those of the task.
    void run(Index positions, FloatRoom& room, const float* from, const float* d_output, const float* base, float* d_x, float* sums) const {
        const Framed& x_frame = room.inputs.of(shape_, line_.features, shape_.above, 0);
        const Framed& d_frame = room.gradients.of(shape_, padded_, 0, shape_.above);
        std::vector<Term> terms(shape_.above + 1);
        std::vector<Window> windows(shape_.height);
        std::vector<BackwardProduct::Part> parts;
        for (Index row = 0; row <= shape_.above; ++row) parts.push_back({shape_.open(row) * line_.features, row * x_frame.line});
        shape_.panes(positions, [&](Index first, Index columns) {
            const float* x = x_frame.around(from + first * line_.features, columns, line_.features, line_.rectify);
            const float* d = d_frame.around(d_output + first * line_.outputs, columns, line_.outputs, false);
            for (Index r = 0; r < shape_.height; ++r) {
                for (Index below = 0; below <= shape_.above; ++below) {
                    const Index skipped = below == 0 ? shape_.side : 0;
                    terms[below] = {d + (r + below) * d_frame.line + skipped * padded_, padded_, (shape_.span - skipped) * padded_};
                }
                const Index at = (first + r * shape_.width) * line_.features;
                if (d_x != nullptr)
                    product_.inputs(columns, terms, line_.rectify ? from + at : nullptr, base == nullptr ? nullptr : base + at, d_x + at);
                windows[r] = {x + r * x_frame.line, line_.features, d + r * d_frame.line + shape_.side * padded_, padded_, columns};
            }
            product_.weights(windows, parts, sums);
        });
    }

    // Write gradients of weight and bias.
    void unpack(const float* sums, float* d_weight, float* d_bias) const {
        product_.unpack(
            sums, [&](Index n, Index k) { return d_weight + (n * line_.features + k % line_.features) * shape_.taps + k / line_.features; },
            d_bias);
    }

private:
    const Line& line_;
    Shape shape_;
    Index padded_;
    BackwardProduct product_;
};

// The product of a line, of float32 or of bfloat16; neither, if it is a sum.
template <typename OfFloats, typename OfHalves>
class Either {
public:
    Either(const Line& line, const Cut& cut) {
        if (line.weight == nullptr) return;
        if (line.halves) {
            halves_ = std::make_unique<OfHalves>(line, cut);
        } else {
            floats_ = std::make_unique<OfFloats>(line, cut);
        }
    }
    bool is_sum() const { return halves_ == nullptr && floats_ == nullptr; }
    // Call run(product), of a line that is not a sum.
    template <typename Run>
    auto with(Run run) const {
        return halves_ == nullptr ? run(*floats_) : run(*halves_);
    }

private:
    std::unique_ptr<OfFloats> floats_;
    std::unique_ptr<OfHalves> halves_;
};

template <typename OfFloats, typename OfHalves>
struct Products : std::vector<Either<OfFloats, OfHalves>> {
    explicit Products(const Plan& plan) {
        for (const Line& line : plan.chain.lines) this->emplace_back(line, plan.cut);
    }
};

using ForwardProducts = Products<Forward, HalfForward>;
using BackwardProducts = Products<Backward, HalfBackward>;

inline Index sums_size(const BackwardProducts::value_type& each) {
    return each.is_sum() ? 0 : each.with([](const auto& product) { return product.sums_size(); });
}

// Take an image through the chain.
void forward_image(const Plan& plan, const ForwardProducts& products, Index image, Room& room, Spare& spare,
                   Interrupts& interrupts) {
    const Index positions = plan.cut.count(image);
    std::vector<float*> maps(plan.features.size());
    for (std::size_t n = 0; n < maps.size(); ++n) maps[n] = plan.of(plan.chain.maps[n], image, static_cast<Index>(n));
    for (std::size_t n = 0; n < products.size(); ++n) {
        interrupts.check();
        const Line& line = plan.chain.lines[n];
        const auto ends = [&](Index map) { return plan.chain.maps[map] == nullptr && plan.last_use[map] == static_cast<Index>(n); };
        bool given = false;
        if (maps[line.output] == nullptr) {
            // What is added to may be overwritten, if nobody reads it again.
            given = line.other >= 0 && line.other != line.input && ends(line.other);
            maps[line.output] = given ? maps[line.other] : spare.take();
        }
        const float* base = line.other < 0 ? nullptr : maps[line.other];
        if (products[n].is_sum()) {
            sum_rows(maps[line.output], maps[line.input], base, positions * line.outputs);
        } else {
            products[n].with([&](const auto& product) { product.run(positions, room, maps[line.input], base, maps[line.output]); });
        }
        if (ends(line.input)) spare.give(maps[line.input]);
        if (line.other >= 0 && line.other != line.input && ends(line.other) && !given) spare.give(maps[line.other]);
        if (plan.chain.maps[line.output] == nullptr && plan.last_use[line.output] < 0) spare.give(maps[line.output]);
    }
}

void forward(const Chain& chain, int threads) {
    const Plan plan(chain);
    const ForwardProducts products(plan);
    const Share share(plan.cut.images, threads);
    Interrupts interrupts;
    run_tasks(share.count, threads, interrupts, [&](Index task) {
        Room room;
        Spare spare(plan.widest);
        for (Index image = share.first(task); image < share.first(task + 1); ++image)
            forward_image(plan, products, image, room, spare, interrupts);
    });
}

// The gradients of an image's maps on the way back. Those of the output, and what is added to that of x, are only read.
class GradientMaps {
public:
    GradientMaps(const Plan& plan, const ChainGradients& d, Index image, Spare& spare)
        : plan_(plan), spare_(spare), positions_(plan.cut.count(image)), wants_x_(d.x != nullptr), x_(plan.of(d.x, image, 0)),
          read_(plan.features.size(), nullptr), written_(plan.features.size(), nullptr) {
        read_[plan.chain.lines.back().output] = plan.of(d.output, image, plan.chain.lines.back().output);
        if (d.beside != nullptr) read_[0] = plan.of(d.beside, image, 0);
    }
    bool wants(Index map) const { return map > 0 || wants_x_; }
    // What is known so far; null: nothing.
    const float* of(Index map) const { return read_[map]; }
    // Where more may be added to it.
    float* target(Index map) {
        if (written_[map] == nullptr) written_[map] = map == 0 ? x_ : spare_.take();
        return written_[map];
    }
    void set(Index map) { read_[map] = written_[map]; }
    // Add the gradient of `from` to that of `to`; if it is not needed again, its place may become that of `to`.
    void pass(Index from, Index to, bool last) {
        if (!wants(to)) return;
        if (last && to > 0 && read_[to] == nullptr) {
            std::swap(written_[to], written_[from]);
            read_[to] = read_[from];
            return;
        }
        const Index size = positions_ * plan_.features[to];
        const float* before = read_[to];
        float* sum = target(to);
        if (before == nullptr) {
            copy_row(sum, read_[from], size);
        } else {
            sum_rows(sum, before, read_[from], size);
        }
        set(to);
    }
    void release(Index map) {
        if (written_[map] != nullptr && map > 0) spare_.give(written_[map]);
        written_[map] = nullptr;
    }

private:
    const Plan& plan_;
    Spare& spare_;
    Index positions_;
    bool wants_x_;
    float* x_;
    std::vector<const float*> read_;
    std::vector<float*> written_;
};

// Take an image's gradients back through the chain; `sums` are those of the task.
void backward_image(const Plan& plan, const BackwardProducts& products, const ChainGradients& d, Index image, Room& room, Spare& spare,
                    float* sums, Interrupts& interrupts) {
    GradientMaps maps(plan, d, image, spare);
    for (std::size_t n = products.size(); n-- > 0;) {
        interrupts.check();
        const Line& line = plan.chain.lines[n];
        sums -= sums_size(products[n]);
        if (maps.of(line.output) == nullptr) continue;  // nobody used it
        if (!products[n].is_sum()) {
            const float* base = maps.of(line.input);
            float* d_input = maps.wants(line.input) ? maps.target(line.input) : nullptr;
            products[n].with([&](const auto& product) {
                product.run(plan.cut.count(image), room, plan.of(plan.chain.maps[line.input], image, line.input), maps.of(line.output), base,
                            d_input, sums);
            });
            if (d_input != nullptr) maps.set(line.input);
        } else {
            maps.pass(line.output, line.input, false);
        }
        if (line.other >= 0) maps.pass(line.output, line.other, true);
        maps.release(line.output);
    }
}

void backward(const Chain& chain, const ChainGradients& d, int threads) {
    const Plan plan(chain);
    const BackwardProducts products(plan);
    Index size = 0;
    for (const auto& each : products) size += sums_size(each);
    const Share share(plan.cut.images, threads, size > LARGE);
    const Index count = std::max<Index>(1, share.count);
    const Buffer sums = allocate(count * size);
    if (share.count == 0) std::fill(sums.get(), sums.get() + size, 0.0f);
    Interrupts interrupts;
    run_tasks(share.count, threads, interrupts, [&](Index task) {
        Room room;
        Spare spare(plan.widest);
        float* own = sums.get() + task * size;
        std::fill(own, own + size, 0.0f);
        for (Index image = share.first(task); image < share.first(task + 1); ++image)
            backward_image(plan, products, d, image, room, spare, own + size, interrupts);
    });
    // Add up the tasks, always in the same order.
    for (Index task = 1; task < count; ++task) add_row(sums.get(), sums.get() + task * size, size);
    const float* from = sums.get();
    for (std::size_t n = 0; n < products.size(); from += sums_size(products[n++])) {
        if (products[n].is_sum()) continue;
        products[n].with([&](const auto& product) { product.unpack(from, d.weights[n], d.biases[n]); });
    }
}

}  // namespace

extern const ConvolutionKernel convolution;
const ConvolutionKernel convolution = {forward, backward};

}  // namespace pixelrnn::PIXELRNN_ISA
