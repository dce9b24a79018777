// The recurrence over fronts of cells, forward. Compiled once for each instruction set.

#include <tuple>
#include <utility>

#include "front_plan.hpp"
#include "functions.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// A part of the depth of the forward product: `depth` features of a tap of x, or of a neighbour's h.
struct Piece {
    bool input;
    Index tap, first, depth, at;  // `at`: where it begins in the whole depth
};

// Pieces whose packed weights stay together in the first-level cache.
std::vector<std::vector<Piece>> split_depth(const Problem& p) {
    std::vector<std::vector<Piece>> groups;
    Index at = 0, room = 0;
    auto add = [&](bool input, Index tap, Index features) {
        const Index parts = (features + PANEL - 1) / PANEL;
        for (Index n = 0; n < parts; ++n) {
            const Index first = features * n / parts, depth = features * (n + 1) / parts - first;
            if (groups.empty() || depth > room) {
                groups.emplace_back();
                room = PANEL;
            }
            groups.back().push_back({input, tap, first, depth, at});
            room -= depth;
            at += depth;
        }
    };
    for (Index tap = 0; tap < p.taps; ++tap) add(true, tap, p.features);
    for (Index tap = 0; tap < p.neighbours; ++tap) add(false, tap, p.hidden);
    return groups;
}

// Weights of all directions, repacked for the forward product: [direction][block][depth][gate][lane], and biases.
struct ForwardWeights {
    Index size, bias_size;
    Buffer weight, bias;
    Halves halves;  // the weights as right matrices of bfloat16

    ForwardWeights(const Problem& p, const Plan& plan)
        : size(plan.blocks * plan.depth * WIDE), bias_size(plan.blocks * WIDE),
          weight(allocate(p.directions * size)), bias(allocate(p.directions * bias_size)) {
        for (Index d = 0; d < p.directions; ++d) {
            float* to = weight.get() + d * size;
            for (Index block = 0; block < plan.blocks; ++block) {
                to = pack(to, p.input_weight + d * GATES * p.hidden * p.features * p.taps, p.features, p.taps, p.hidden, block);
                to = pack(to, p.weight + d * GATES * p.hidden * p.hidden * p.neighbours, p.hidden, p.neighbours, p.hidden, block);
                for (Index gate = 0; gate < GATES; ++gate)
                    for (Index lane = 0; lane < V; ++lane) {
                        const Index j = block * V + lane;
                        bias[d * bias_size + (block * GATES + gate) * V + lane] =
                            j < p.hidden ? p.input_bias[(d * GATES + gate) * p.hidden + j] : 0;
                    }
            }
        }
        if (p.halves) halves = as_panels(weight.get(), p.directions * plan.blocks, plan.depth);
    }

    static float* pack(float* to, const float* from, Index features, Index taps, Index hidden, Index block) {
        for (Index tap = 0; tap < taps; ++tap)
            for (Index k = 0; k < features; ++k)
                for (Index gate = 0; gate < GATES; ++gate)
                    for (Index lane = 0; lane < V; ++lane) {
                        const Index j = block * V + lane;
                        *to++ = j < hidden ? from[((gate * hidden + j) * features + k) * taps + tap] : 0;
                    }
        return to;
    }
};

void fill_rows(float* rows, Index count, Index line, const float* values, Index features, Index padded) {
    for (Index m = 0; m < count; ++m) {
        std::copy(values, values + features, rows + m * line);
        std::fill(rows + m * line + features, rows + m * line + padded, 0.0f);
    }
}

// The buffers of a task.
struct Scratch {
    Buffer input, partial, ring;
    Halves input_halves, seen_halves;
    std::vector<amx::Term> terms;

    Scratch(const Problem& p, const Plan& plan, Index images, bool keeps) {
        const Index rows = plan.widest * images, spare = rows + amx::ROWS;
        input = allocate(rows * plan.input_line);
        partial = allocate(spare * WIDE);
        ring = allocate(keeps ? 0 : 2 * rows * (plan.line + plan.padded));
        if (!p.halves) return;
        input_halves = allocate_halves(spare * plan.input_line);
        seen_halves = allocate_halves(spare * plan.line);
    }
    // The left matrix of a front; what lies in the rows after it does not matter.
    void round(const Problem& p, const Plan& plan, Index images, Index rows, const float* seen) {
        amx::round(input_halves.get(), input.get(), (rows + (p.taps - 1) * images) * plan.input_line);
        amx::round(seen_halves.get(), seen, (rows + (p.neighbours - 1) * images) * plan.line);
        terms.clear();
        for (Index tap = 0; tap < p.taps; ++tap)
            terms.push_back({input_halves.get() + tap * images * plan.input_line, plan.input_line, p.features});
        for (Index tap = 0; tap < p.neighbours; ++tap)
            terms.push_back({seen_halves.get() + tap * images * plan.line, plan.line, p.hidden});
    }
};

// One direction of one part.
void scan(const Problem& p, const Plan& plan, const std::vector<std::vector<Piece>>& groups, const float* weights,
          const float* bias, const Halves& panels, Index d, Index image, Index images, const Map<float>& hidden_map,
          float* saved, Scratch& scratch, Interrupts& interrupts) {
    float *input = scratch.input.get(), *partial = scratch.partial.get(), *ring = scratch.ring.get();
    float* gates = saved;
    float* hidden_arena = saved == nullptr ? nullptr : saved + images * plan.saved_gates();
    float* cell_arena = saved == nullptr ? nullptr : hidden_arena + images * plan.saved_hidden();
    // The states a front sees, and those after it: in the arenas, or two buffers in turn.
    auto hidden_at = [&](Index slot, std::size_t n) {
        return hidden_arena != nullptr ? hidden_arena + slot * images * plan.line
                                       : ring + static_cast<Index>(n % 2) * plan.widest * images * plan.line;
    };
    auto cell_at = [&](Index slot, std::size_t n) {
        return cell_arena != nullptr
                   ? cell_arena + slot * images * plan.padded
                   : ring + plan.widest * images * (2 * plan.line + static_cast<Index>(n % 2) * plan.padded);
    };
    const float* hidden_init = p.hidden_init + d * p.hidden;
    const float* cell_init = p.cell_init + d * p.hidden;

    for (std::size_t n = 0; n < plan.fronts.size(); ++n) {
        interrupts.check();
        const Front& front = plan.fronts[n];
        const Index rows = front.cells * images;
        float* seen = hidden_at(front.seen, n);
        float* seen_cell = cell_at(front.seen, n);
        for (auto [slot, count] : {std::pair{Index{0}, front.before}, {front.before + front.last, front.after}}) {
            fill_rows(seen + slot * images * plan.line, count * images, plan.line, hidden_init, p.hidden, plan.padded);
            fill_rows(seen_cell + slot * images * plan.padded, count * images, plan.padded, cell_init, p.hidden, plan.padded);
        }
        const Index own_slot = plan.before_next(n);
        float* hidden = hidden_at(plan.seen_next(n), n + 1) + own_slot * images * plan.line;
        float* cell = cell_at(plan.seen_next(n), n + 1) + own_slot * images * plan.padded;
        gather(p, plan, front, d, image, images, input);

        // Complete a row of a block.
        auto finish = [&](Index block, Index m, Vec o, Vec f, Vec i, Vec g) __attribute__((always_inline)) {
            o = sigmoid(o), f = sigmoid(f), i = sigmoid(i), g = tanh(g);
            const Vec before = load(seen_cell + (m + plan.predecessor * images) * plan.padded + block * V);
            const Vec c = f * before + i * g;
            store(cell + m * plan.padded + block * V, c);
            store(hidden + m * plan.line + block * V, o * tanh(c));
            if (gates != nullptr) {
                float* to = gates + (block * rows + m) * WIDE;
                store_away(to, o);
                store_away(to + V, f);
                store_away(to + 2 * V, i);
                store_away(to + 3 * V, g);
            }
        };
        if (p.halves) {
            scratch.round(p, plan, images, rows, seen);
            for (Index block = 0; block < plan.blocks; ++block) {
                amx::multiply(partial, WIDE, round_up(rows, amx::ROWS), scratch.terms.data(), p.taps + p.neighbours,
                              panels.get() + (d * plan.blocks + block) * plan.depth * WIDE, WIDE, false);
                const float* from = bias + block * WIDE;
                const Vec o = load(from), f = load(from + V), i = load(from + 2 * V), g = load(from + 3 * V);
                for (Index m = 0; m < rows; ++m) {
                    const float* sums = partial + m * WIDE;
                    finish(block, m, o + load(sums), f + load(sums + V), i + load(sums + 2 * V), g + load(sums + 3 * V));
                }
            }
        }
        for (Index block = 0; block < (p.halves ? 0 : plan.blocks); ++block) {
            const float* right = weights + block * plan.depth * WIDE;
            for (std::size_t group = 0; group < groups.size(); ++group) {
                const bool opens = group == 0, closes = group + 1 == groups.size();
                for_tiles(rows, [&](auto size, Index m) __attribute__((always_inline)) {
                    constexpr Index M = decltype(size)::value;
                    Vec acc[M][GATES];
                    const float* from = opens ? bias + block * WIDE : partial + m * WIDE;
                    const Index step = opens ? 0 : WIDE;
#pragma GCC unroll 8
                    for (Index r = 0; r < M; ++r)
#pragma GCC unroll 8
                        for (Index gate = 0; gate < GATES; ++gate) acc[r][gate] = load(from + r * step + gate * V);
                    for (const Piece& piece : groups[group]) {
                        const Index line = piece.input ? plan.input_line : plan.line;
                        const float* left = (piece.input ? input : seen) + (m + piece.tap * images) * line + piece.first;
                        multiply<M, GATES>(acc, left, line, 1, right + piece.at * WIDE, WIDE, piece.depth);
                    }
                    if (!closes) {
#pragma GCC unroll 8
                        for (Index r = 0; r < M; ++r)
#pragma GCC unroll 8
                            for (Index gate = 0; gate < GATES; ++gate)
                                store(partial + (m + r) * WIDE + gate * V, acc[r][gate]);
                        return;
                    }
#pragma GCC unroll 8
                    for (Index r = 0; r < M; ++r) finish(block, m + r, acc[r][0], acc[r][1], acc[r][2], acc[r][3]);
                });
            }
        }
        if (gates != nullptr) gates += rows * plan.blocks * WIDE;
        for_rows(p, plan, front, d, d, hidden_map, 0, images, [&](Index m, float* to) {
            (d == 0 ? copy_row : add_row)(to, hidden + m * plan.line, p.hidden);
        });
    }
}

void forward(const Problem& p, float* output, float* saved, int threads) {
    if (p.batch == 0) return;
    const Plan plan(p);
    const auto groups = split_depth(p);
    const ForwardWeights weights(p, plan);
    const ForwardProduct projection(
        p.hidden, p.outputs, [&](Index k, Index n) { return p.out_weight[n * p.hidden + k]; }, p.out_bias);
    const Tasks tasks(p, threads);
    Interrupts interrupts;
    run_tasks(tasks.count, threads, interrupts, [&](Index task) {
        Scratch scratch(p, plan, tasks.images, saved != nullptr);
        const bool own_map = p.outputs > 0 && saved == nullptr;
        const Buffer map = allocate(own_map ? tasks.images * plan.cells * p.hidden : 0);
        for (Index part = tasks.first(task); part < tasks.first(task + 1); ++part) {
            const Index image = part * tasks.images, images = tasks.in_part(part), positions = images * plan.cells;
            float* kept = saved == nullptr ? nullptr : saved + image * plan.saved_image(p);
            float* h = p.outputs == 0       ? output + image * plan.cells * p.hidden
                       : saved == nullptr ? map.get()
                                          : kept + images * p.directions * plan.saved();
            const float* x = p.x + image * plan.cells * p.features;
            prefetch(x, positions * p.features);
            const Map<float> hidden_map{h, p.height, p.width, p.hidden};
            for (Index d = 0; d < p.directions; ++d) {
                if (d == 1)
                    for (Index b = 0; b < images; ++b)
                        for (Index col = 0; col < p.width; ++col)
                            add_row(hidden_map.at(b, 0, col), p.hidden_init + p.hidden, p.hidden);
                scan(p, plan, groups, weights.weight.get() + d * weights.size, weights.bias.get() + d * weights.bias_size,
                     weights.halves, d, image, images, hidden_map,
                     kept == nullptr ? nullptr : kept + d * images * plan.saved(), scratch, interrupts);
            }
            if (p.outputs > 0)
                for (Index row = 0; row < positions; row += CHUNK)
                    projection.run(std::min(CHUNK, positions - row), {{h + row * p.hidden, p.hidden, p.hidden}},
                                   p.residual ? x + row * p.features : nullptr,
                                   output + (image * plan.cells + row) * p.outputs);
        }
        finish_stores();
    });
}

Index saved_size(const Problem& p) { return Plan(p).saved_image(p); }

void states(const Problem& p, const float* saved, float* hidden, float* cell) {
    const Plan plan(p);
    const Tasks tasks(p, 1);
    for (Index part = 0; part < tasks.parts; ++part) {
        const Index image = part * tasks.images, images = tasks.in_part(part);
        for (Index d = 0; d < p.directions; ++d) {
            const float* h = saved + image * plan.saved_image(p) + d * images * plan.saved() + images * plan.saved_gates();
            const float* c = h + images * plan.saved_hidden();
            for (std::size_t n = 0; n < plan.fronts.size(); ++n) {
                const Index own = (plan.seen_next(n) + plan.before_next(n)) * images;
                for (auto [states, from, line] : {std::tuple{hidden, h, plan.line}, {cell, c, plan.padded}}) {
                    const Map<float> map{states + d * p.batch * plan.cells * p.hidden, p.height, p.width, p.hidden};
                    for_rows(p, plan, plan.fronts[n], d, 0, map, image, images, [&, from = from, line = line](Index m, float* to) {
                        copy_row(to, from + (own + m) * line, p.hidden);
                    });
                }
            }
        }
    }
}

}  // namespace

extern const RecurrentKernel recurrent;
const RecurrentKernel recurrent = {saved_size, forward, front_backward, states};

}  // namespace pixelrnn::PIXELRNN_ISA
