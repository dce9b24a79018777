// The recurrence over fronts of cells, backward. Compiled once for each instruction set.

#include <utility>

#include "front_plan.hpp"
#include "functions.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// Rows of gate gradients that are gathered for a product of weight gradients, which reads and writes all of these; of
// bfloat16, where the product itself costs less.
constexpr Index FLUSH = 128, FLUSH_HALVES = 512;

// A vector of the backward product's result: V features of a tap of x, or of a neighbour's h.
struct Target {
    bool input;
    Index tap, vector;
};

// The same weights transposed, for the product that hands gradients back: columns are targets, in groups of up to 4.
struct BackwardWeights {
    std::vector<Target> targets;
    Index size;
    Buffer weight;  // [direction][group of targets][block][gate][lane][target of the group][lane]
    Halves halves;  // the groups, all of 4 then, as right matrices of bfloat16

    BackwardWeights(const Problem& p, const Plan& plan) {
        for (Index tap = 0; tap < p.taps; ++tap)
            for (Index v = 0; v < plan.input_vectors; ++v) targets.push_back({true, tap, v});
        for (Index tap = 0; tap < p.neighbours; ++tap)
            for (Index v = 0; v < plan.blocks; ++v) targets.push_back({false, tap, v});
        const Index count = static_cast<Index>(targets.size()), depth = plan.blocks * WIDE;
        size = count * V * depth;
        weight = allocate(p.directions * size);
        for (Index d = 0; d < p.directions; ++d) {
            const float* input = p.input_weight + d * GATES * p.hidden * p.features * p.taps;
            const float* states = p.weight + d * GATES * p.hidden * p.hidden * p.neighbours;
            for (Index first = 0; first < count; first += 4) {
                const Index group = std::min<Index>(4, count - first);
                for (Index n = 0; n < group; ++n) {
                    const Target& t = targets[first + n];
                    const Index features = t.input ? p.features : p.hidden, taps = t.input ? p.taps : p.neighbours;
                    const float* from = t.input ? input : states;
                    float* to = weight.get() + d * size + first * V * depth + n * V;
                    for (Index block = 0; block < plan.blocks; ++block)
                        for (Index gate = 0; gate < GATES; ++gate)
                            for (Index lane = 0; lane < V; ++lane, to += group * V) {
                                const Index j = block * V + lane;
                                for (Index k = 0; k < V; ++k) {
                                    const Index f = t.vector * V + k;
                                    to[k] = j < p.hidden && f < features
                                                ? from[((gate * p.hidden + j) * features + f) * taps + t.tap]
                                                : 0;
                                }
                            }
                }
            }
        }
        if (p.halves) halves = as_panels(weight.get(), p.directions * count / 4, depth);
    }
};

// Sums over the rows of one task, of one direction.
struct Sums {
    Index weight_size, size;
    explicit Sums(const Plan& plan)
        : weight_size(plan.blocks * plan.depth * WIDE), size(weight_size + plan.blocks * WIDE + 2 * plan.padded) {}
    // [block][depth][gate][lane] as the forward weights, then biases [block][gate][lane], then the initial h and c.
    float* bias(float* sums) const { return sums + weight_size; }
    float* hidden_init(float* sums, const Plan& plan) const { return bias(sums) + plan.blocks * WIDE; }
    float* cell_init(float* sums, const Plan& plan) const { return hidden_init(sums, plan) + plan.padded; }
};

// Fronts whose part of the weight gradients is still to be added up.
struct Pending {
    const float *input, *seen, *gates;
    Index rows;
};

void add_weight_gradients(const Problem& p, const Plan& plan, const std::vector<Pending>& pending, Index images, float* sums) {
    std::vector<Window> windows;
    for (Index block = 0; block < plan.blocks; ++block) {
        float* to = sums + block * plan.depth * WIDE;
        for (int kind = 0; kind < 2; ++kind) {
            const bool is_input = kind == 0;
            const Index taps = is_input ? p.taps : p.neighbours, features = is_input ? p.features : p.hidden;
            const Index line = is_input ? plan.input_line : plan.line;
            windows.clear();
            for (const Pending& front : pending)
                windows.push_back({is_input ? front.input : front.seen, line, front.gates + block * front.rows * WIDE, WIDE, front.rows});
            for (Index tap = 0; tap < taps; ++tap, to += features * WIDE)
                add_transposed<GATES>(to, features, windows, tap * images * line, 0);
        }
    }
}

// The same of bfloat16.
struct HalfProduct {
    std::vector<amx::Half> gates, left, right;
    std::vector<amx::Term> terms;

    static amx::Half* room(std::vector<amx::Half>& buffer, Index size) {
        if (static_cast<Index>(buffer.size()) < size) buffer.resize(static_cast<std::size_t>(size));
        return buffer.data();
    }

    void add_weight_gradients(const Problem& p, const Plan& plan, const std::vector<Pending>& pending, Index images, float* sums) {
        // Rows are the depth now; that of a front is padded, and so is what lies in the rows that a tap moves it by.
        auto depth = [](const Pending& front) { return round_up(front.rows, amx::DEPTH); };
        auto columns = [&](const Pending& front, Index taps) { return round_up(depth(front) + (taps - 1) * images, amx::DEPTH); };
        Index total = 0, size = 0;
        for (const Pending& front : pending) {
            total += depth(front);
            size += columns(front, p.taps) * p.features + columns(front, p.neighbours) * p.hidden;
        }
        amx::Half* panels = room(right, total * plan.blocks * WIDE);
        for (Index block = 0; block < plan.blocks; ++block) {
            amx::Half* panel = panels + block * total * WIDE;
            for (const Pending& front : pending) {
                amx::interleave(panel, front.gates + block * front.rows * WIDE, WIDE, WIDE, front.rows, depth(front));
                panel += depth(front) * WIDE;
            }
        }
        amx::Half* maps = room(left, size);
        Index at = 0;
        for (int kind = 0; kind < 2; ++kind) {
            const bool is_input = kind == 0;
            const Index taps = is_input ? p.taps : p.neighbours, features = is_input ? p.features : p.hidden;
            const amx::Half* first = maps;
            for (const Pending& front : pending) {
                amx::transpose(maps, columns(front, taps), is_input ? front.input : front.seen, is_input ? plan.input_line : plan.line,
                               front.rows + (taps - 1) * images, features, columns(front, taps));
                maps += columns(front, taps) * features;
            }
            for (Index tap = 0; tap < taps; ++tap, at += features) {
                const amx::Half* map = first + tap * images;
                terms.clear();
                for (const Pending& front : pending) {
                    terms.push_back({map, columns(front, taps), depth(front)});
                    map += columns(front, taps) * features;
                }
                for (Index block = 0; block < plan.blocks; ++block)
                    amx::multiply(sums + (block * plan.depth + at) * WIDE, WIDE, features, terms.data(),
                                  static_cast<Index>(terms.size()), panels + block * total * WIDE, WIDE, true);
            }
        }
    }

    void hand_back(const Plan& plan, const std::vector<Target>& targets, const amx::Half* weights, const float* d_gates,
                   Index rows, Index images, float* d_input, float* d_seen) {
        const Index padded = round_up(rows, amx::ROWS), depth = plan.blocks * WIDE;
        amx::Half* to = room(gates, padded * depth);
        terms.clear();
        for (Index block = 0; block < plan.blocks; ++block, to += padded * WIDE) {
            amx::round(to, d_gates + block * rows * WIDE, rows * WIDE);
            std::fill(to + rows * WIDE, to + padded * WIDE, amx::Half{0});  // what these rows give goes to other cells
            terms.push_back({to, WIDE, WIDE});
        }
        for (std::size_t n = 0; n < targets.size(); n += 4, weights += depth * WIDE) {
            const Target& target = targets[n];
            const Index line = target.input ? plan.input_line : plan.line;
            float* sums = (target.input ? d_input : d_seen) + target.tap * images * line + target.vector * V;
            amx::multiply(sums, line, padded, terms.data(), plan.blocks, weights, WIDE, true);
        }
    }
};

// Hand the gradients of a front's gates back to x and to the states that it saw.
template <Index N>
void hand_back(const Plan& plan, const Target* targets, const float* weights, const float* d_gates, Index rows,
               Index images, float* d_input, float* d_seen) {
    constexpr Index together = std::max<Index>(1, PANEL / WIDE);
    float* to[N];
    Index line[N];
    for (Index n = 0; n < N; ++n) {
        line[n] = targets[n].input ? plan.input_line : plan.line;
        to[n] = (targets[n].input ? d_input : d_seen) + targets[n].tap * images * line[n] + targets[n].vector * V;
    }
    for (Index first = 0; first < plan.blocks; first += together) {
        const Index end = std::min(plan.blocks, first + together);
        for_tiles(rows, [&](auto size, Index m) __attribute__((always_inline)) {
            constexpr Index M = decltype(size)::value;
            Vec acc[M][N] = {};
            for (Index block = first; block < end; ++block)
                multiply<M, N>(acc, d_gates + (block * rows + m) * WIDE, WIDE, 1, weights + block * WIDE * N * V, N * V, WIDE);
#pragma GCC unroll 8
            for (Index n = 0; n < N; ++n)
#pragma GCC unroll 8
                for (Index r = 0; r < M; ++r) {
                    float* target = to[n] + (m + r) * line[n];
                    store(target, load(target) + acc[r][n]);
                }
        });
    }
}

// Gradients of the gates of a front before their non-linearities, and of the c it continued from.
void gate_gradients(const Plan& plan, Index rows, Index images, const float* const* d_output, const float* gates,
                    const float* cell, const float* seen_cell, const float* d_hidden, const float* d_cell,
                    float* d_gates, float* d_seen_cell, float* d_bias, const float* next) {
    const Vec one = broadcast(1);
    for (Index block = 0; block < plan.blocks; ++block) {
        const Index lanes = std::min(V, plan.hidden - block * V);
        Vec sums[GATES];
        for (Index gate = 0; gate < GATES; ++gate) sums[gate] = load(d_bias + block * WIDE + gate * V);
        for (Index m = 0; m < rows; ++m) {
            const float* from = gates + (block * rows + m) * WIDE;
            prefetch(next + (block * rows + m) * WIDE, WIDE);
            const Vec o = load(from), f = load(from + V), i = load(from + 2 * V), g = load(from + 3 * V);
            const Index at = m * plan.padded + block * V, before = at + plan.predecessor * images * plan.padded;
            const Vec squashed = tanh(load(cell + at));
            Vec dh = load(d_hidden + m * plan.line + block * V);
            if (d_output[m] != nullptr)
                dh += lanes == V ? load(d_output[m] + block * V) : load_first(d_output[m] + block * V, lanes);
            const Vec dc = load(d_cell + at) + dh * o * (one - squashed * squashed);
            const Vec d[GATES] = {dh * squashed * o * (one - o), dc * load(seen_cell + before) * f * (one - f),
                                  dc * g * i * (one - i), dc * i * (one - g * g)};
            store(d_seen_cell + before, dc * f);
            float* to = d_gates + (block * rows + m) * WIDE;
#pragma GCC unroll 8
            for (Index gate = 0; gate < GATES; ++gate) {
                store(to + gate * V, d[gate]);
                sums[gate] += d[gate];
            }
        }
        for (Index gate = 0; gate < GATES; ++gate) store(d_bias + block * WIDE + gate * V, sums[gate]);
    }
}

void add_rows(float* sums, const float* rows, Index count, Index line, Index padded) {
    for (Index m = 0; m < count; ++m) add_row(sums, rows + m * line, padded);
}

// The buffers of a task.
struct Workspace {
    Index rows, flush, pending_cells = 0;
    Buffer input, d_gates, d_input, d_hidden[2], d_cell[2];
    std::vector<const float*> d_output;
    std::vector<Pending> pending;
    HalfProduct halves;

    Workspace(const Problem& p, const Plan& plan, Index images) : rows(plan.widest * images), d_output(rows) {
        // By cells, not rows, as the last part of a task may have fewer images.
        flush = ((p.halves ? FLUSH_HALVES : FLUSH) + images - 1) / images;
        Index waiting = 0, inputs = 0, most = 0;
        for (std::size_t n = plan.fronts.size(); n-- > 0;) {
            waiting += plan.fronts[n].cells;
            inputs += plan.fronts[n].cells + p.taps - 1;
            most = std::max(most, inputs * images);
            if (waiting >= flush) waiting = inputs = 0;
        }
        input = allocate(most * plan.input_line);
        d_gates = allocate(most * plan.blocks * WIDE);
        const Index spare = p.halves ? rows + amx::ROWS : rows;
        d_input = allocate(spare * plan.input_line);
        for (int n = 0; n < 2; ++n) {
            d_hidden[n] = allocate(spare * plan.line);
            d_cell[n] = allocate(rows * plan.padded);
        }
    }
};

void scan_back(const Problem& p, const Plan& plan, const BackwardWeights& weights, const Map<const float>& d_hidden_map,
               float* d_x, Index d, Index image, Index images, const float* saved, Workspace& work, const Sums& layout,
               float* sums, Interrupts& interrupts) {
    const float* gates = saved + images * plan.saved_gates();
    const float* hidden_arena = gates;
    const float* cell_arena = hidden_arena + images * plan.saved_hidden();
    float *input = work.input.get(), *d_gates = work.d_gates.get();
    std::fill(work.d_hidden[0].get(), work.d_hidden[0].get() + work.rows * plan.line, 0.0f);
    std::fill(work.d_cell[0].get(), work.d_cell[0].get() + work.rows * plan.padded, 0.0f);

    for (std::size_t n = plan.fronts.size(); n-- > 0;) {
        interrupts.check();
        const Front& front = plan.fronts[n];
        const Index rows = front.cells * images, seen_rows = front.slots() * images;
        gates -= rows * plan.blocks * WIDE;
        const float* seen = hidden_arena + front.seen * images * plan.line;
        const float* seen_cell = cell_arena + front.seen * images * plan.padded;
        const Index own = (plan.seen_next(n) + plan.before_next(n)) * images;
        const Index own_seen = plan.before_next(n) * images;
        float *d_hidden = work.d_hidden[0].get(), *d_cell = work.d_cell[0].get();
        float *d_seen = work.d_hidden[1].get(), *d_seen_cell = work.d_cell[1].get();
        std::fill(d_seen, d_seen + seen_rows * plan.line, 0.0f);
        std::fill(d_seen_cell, d_seen_cell + seen_rows * plan.padded, 0.0f);

        gather(p, plan, front, d, image, images, input);
        std::fill(work.d_output.begin(), work.d_output.begin() + rows, nullptr);
        for_rows(p, plan, front, d, d, d_hidden_map, 0, images,
                 [&](Index m, const float* from) { work.d_output[m] = from; });
        gate_gradients(plan, rows, images, work.d_output.data(), gates, cell_arena + own * plan.padded, seen_cell,
                       d_hidden + own_seen * plan.line, d_cell + own_seen * plan.padded, d_gates, d_seen_cell,
                       layout.bias(sums), n > 0 ? gates - rows * plan.blocks * WIDE : gates);

        const Index input_rows = (front.cells + p.taps - 1) * images;
        std::fill(work.d_input.get(), work.d_input.get() + input_rows * plan.input_line, 0.0f);
        const Index count = static_cast<Index>(weights.targets.size());
        if (p.halves)
            work.halves.hand_back(plan, weights.targets, weights.halves.get() + d * weights.size, d_gates, rows, images,
                                  work.d_input.get(), d_seen);
        for (Index first = 0; first < (p.halves ? 0 : count); first += 4) {
            const Target* targets = weights.targets.data() + first;
            const float* right = weights.weight.get() + d * weights.size + first * V * plan.blocks * WIDE;
            auto* product = count - first >= 4   ? hand_back<4>
                            : count - first == 3 ? hand_back<3>
                            : count - first == 2 ? hand_back<2>
                                                 : hand_back<1>;
            product(plan, targets, right, d_gates, rows, images, work.d_input.get(), d_seen);
        }
        const float* d_own = work.d_input.get() + (p.taps - 1) * images * plan.input_line;
        const Map<float> d_x_map{d_x, p.height, p.width, p.features};
        for_rows(p, plan, front, d, 0, d_x_map, 0, images, [&](Index m, float* to) {
            (d == 0 && !p.residual ? copy_row : add_row)(to, d_own + m * plan.input_line, p.features);
        });

        for (auto [slot, slots] : {std::pair{Index{0}, front.before}, {front.before + front.last, front.after}}) {
            add_rows(layout.hidden_init(sums, plan), d_seen + slot * images * plan.line, slots * images, plan.line, plan.padded);
            add_rows(layout.cell_init(sums, plan), d_seen_cell + slot * images * plan.padded, slots * images, plan.padded, plan.padded);
        }

        work.pending.push_back({input, seen, d_gates, rows});
        work.pending_cells += front.cells;
        input += input_rows * plan.input_line;
        d_gates += rows * plan.blocks * WIDE;
        if (work.pending_cells >= work.flush || n == 0) {
            if (p.halves) {
                work.halves.add_weight_gradients(p, plan, work.pending, images, sums);
            } else {
                add_weight_gradients(p, plan, work.pending, images, sums);
            }
            work.pending.clear();
            work.pending_cells = 0;
            input = work.input.get();
            d_gates = work.d_gates.get();
        }
        std::swap(work.d_hidden[0], work.d_hidden[1]);
        std::swap(work.d_cell[0], work.d_cell[1]);
    }
}

}  // namespace

void front_backward(const Problem& p, const Gradients& gradients, int threads) {
    const Plan plan(p);
    const BackwardWeights weights(p, plan);
    const Index outputs = round_up(p.outputs, V);
    const BackwardProduct projection(p.hidden, p.hidden, p.outputs, outputs, [&](Index k, Index n) {
        return k < p.outputs ? p.out_weight[k * p.hidden + n] : 0.0f;
    });
    const Tasks tasks(p, threads);
    const Sums layout(plan);
    const Index projected = p.outputs > 0 ? projection.sums_size : 0, size = p.directions * layout.size + projected;
    const Buffer sums = allocate(std::max<Index>(1, tasks.count) * size);
    if (p.batch == 0) std::fill(sums.get(), sums.get() + size, 0.0f);
    Interrupts interrupts;
    run_tasks(tasks.count, threads, interrupts, [&](Index task) {
        float* own = sums.get() + task * size;
        std::fill(own, own + size, 0.0f);
        Workspace work(p, plan, tasks.images);
        const Buffer d_map = allocate(p.outputs > 0 ? tasks.images * plan.cells * p.hidden : 0);
        const Buffer narrow = allocate(outputs == p.outputs ? 0 : CHUNK * outputs);  // padded to whole vectors
        for (Index part = tasks.first(task); part < tasks.first(task + 1); ++part) {
            const Index image = part * tasks.images, images = tasks.in_part(part), positions = images * plan.cells;
            const float* kept = gradients.saved + image * plan.saved_image(p);
            const float* d_h = gradients.output + image * plan.cells * p.hidden;
            float* d_x = gradients.x + image * plan.cells * p.features;
            prefetch(p.x + image * plan.cells * p.features, positions * p.features);
            if (p.outputs > 0) {
                const float* h = kept + images * p.directions * plan.saved();
                const float* d_output = gradients.output + image * plan.cells * p.outputs;
                for (Index row = 0; row < positions; row += CHUNK) {
                    const Index rows = std::min(CHUNK, positions - row);
                    const float* d = d_output + row * p.outputs;
                    if (outputs != p.outputs) {
                        pad_rows(narrow.get(), d, rows, p.outputs, outputs);
                        d = narrow.get();
                    }
                    projection.inputs(rows, {{d, outputs, outputs}}, nullptr, nullptr, d_map.get() + row * p.hidden);
                    projection.weights({{h + row * p.hidden, p.hidden, d, outputs, rows}}, {{p.hidden, 0}},
                                       own + p.directions * layout.size);
                }
                if (p.residual) copy_row(d_x, d_output, positions * p.features);
                d_h = d_map.get();
            } else {
                prefetch(d_h, positions * p.hidden);
            }
            const Map<const float> d_hidden_map{d_h, p.height, p.width, p.hidden};
            for (Index d = 0; d < p.directions; ++d) {
                float* of_direction = own + d * layout.size;
                if (d == 1)
                    for (Index b = 0; b < images; ++b)
                        for (Index col = 0; col < p.width; ++col)
                            add_row(layout.hidden_init(of_direction, plan), d_hidden_map.at(b, 0, col), p.hidden);
                scan_back(p, plan, weights, d_hidden_map, d_x, d, image, images, kept + d * images * plan.saved(), work,
                          layout, of_direction, interrupts);
            }
        }
    });

    // Add up the tasks, always in the same order, and undo the packing.
    const Index count = std::max<Index>(1, tasks.count);
    run_tasks(p.directions * plan.blocks, threads, interrupts, [&](Index n) {
        const Index d = n / plan.blocks, block = n % plan.blocks;
        const Index lanes = std::min(V, p.hidden - block * V);
        float* total = sums.get() + d * layout.size;
        auto add_up = [&](Index from, Index floats) {
            for (Index task = 1; task < count; ++task) add_row(total + from, total + task * size + from, floats);
        };
        add_up(block * plan.depth * WIDE, plan.depth * WIDE);
        const Index bias = layout.bias(total) - total + block * WIDE;
        add_up(bias, WIDE);
        const float* from = total + block * plan.depth * WIDE;
        auto unpack = [&](float* to, Index features, Index taps) {
            for (Index tap = 0; tap < taps; ++tap)
                for (Index k = 0; k < features; ++k, from += WIDE)
                    for (Index gate = 0; gate < GATES; ++gate)
                        for (Index lane = 0; lane < lanes; ++lane)
                            to[(((d * GATES + gate) * p.hidden + block * V + lane) * features + k) * taps + tap] =
                                from[gate * V + lane];
        };
        unpack(gradients.input_weight, p.features, p.taps);
        unpack(gradients.weight, p.hidden, p.neighbours);
        for (Index gate = 0; gate < GATES; ++gate)
            copy_row(gradients.input_bias + (d * GATES + gate) * p.hidden + block * V, total + bias + gate * V, lanes);
        for (auto [sum, to] : {std::pair{layout.hidden_init(total, plan), gradients.hidden_init},
                               {layout.cell_init(total, plan), gradients.cell_init}}) {
            add_up(sum - total + block * V, V);
            copy_row(to + d * p.hidden + block * V, sum + block * V, lanes);
        }
    });
    if (p.outputs > 0) {
        float* total = sums.get() + p.directions * layout.size;
        for (Index task = 1; task < count; ++task) add_row(total, total + task * size, projected);
        projection.unpack(total, [&](Index n, Index k) { return gradients.out_weight + n * p.hidden + k; }, gradients.out_bias);
    }
}

}  // namespace pixelrnn::PIXELRNN_ISA
