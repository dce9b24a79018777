// The recurrence over fronts of cells, forward and backward. Compiled once for each instruction set.
//
// A task scans a few images. Its rows are (cell j of the front, image b of the task), row = j · images + b, and the
// cells of a front with the states around them lie side by side, so a neighbour is a constant number of rows away.
// Features are padded to whole vectors: a block is V features of h, and V lanes of each gate o, f, i, g belong to it.

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#include "product.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

constexpr Index GATES = 4;
constexpr Index PART = 4;        // images a task scans together
constexpr Index FLUSH = 128;     // rows of gate gradients that are gathered for a product of weight gradients

struct Front {
    Index row, col, cells;      // its first cell, in the direction's own columns
    Index before, last, after;  // states it sees: of the border, of the front before it, of the border
    Index start;                // cells in the fronts before it
    Index seen;                 // slot of the first state it sees
    Index slots() const { return before + last + after; }
};

// Where everything lies.
struct Plan {
    Index hidden, blocks, padded, line;         // h, its vectors, its lanes, and the floats from a row of h to the next
    Index input_line, input_vectors;            // the same for rows of x
    Index depth;                                // of the forward product: S · F + T · h
    Index down, across;                         // from a cell of a front to the next
    Index predecessor;                          // the neighbour that hands on its c
    Index cells, slots, widest;
    std::vector<Front> fronts;

    explicit Plan(const Problem& p) {
        hidden = p.hidden;
        padded = round_up(p.hidden, V);
        blocks = padded / V;
        line = spread(padded);
        input_line = spread(round_up(p.features, V));
        input_vectors = round_up(p.features, V) / V;
        depth = p.taps * p.features + p.neighbours * p.hidden;
        down = p.diagonal ? 1 : 0;
        across = p.diagonal ? -1 : 1;
        predecessor = p.diagonal ? 1 : p.neighbours / 2;
        cells = p.height * p.width;
        slots = widest = 0;
        Index start = 0, last = 0;
        for (Index n = 0; n < (p.diagonal ? p.height + p.width - 1 : p.height); ++n) {
            Front front{};
            if (p.diagonal) {
                front.row = std::max<Index>(0, n - p.width + 1);
                front.col = n - front.row;
                front.cells = std::min(n, p.height - 1) - front.row + 1;
                front.before = n < p.width;
                front.after = n < p.height;
            } else {
                const Index margin = p.neighbours / 2;
                front.row = n;
                front.cells = p.width;
                front.before = margin;
                front.after = n == 0 ? margin + p.width : margin;
            }
            front.last = last;
            front.start = start;
            front.seen = slots;
            start += front.cells;
            slots += front.slots();
            widest = std::max({widest, front.slots(), front.cells});
            last = front.cells;
            fronts.push_back(front);
        }
        slots += last;
        widest += p.neighbours + p.taps;
    }

    // Rows a power of two apart would share a few sets of the cache.
    static Index spread(Index floats) { return floats >= 64 && floats % 64 == 0 ? floats + 16 : floats; }

    Index before_next(std::size_t front) const { return front + 1 < fronts.size() ? fronts[front + 1].before : 0; }
    Index slots_next(std::size_t front) const {
        return front + 1 < fronts.size() ? fronts[front + 1].slots() : fronts[front].cells;
    }
    Index seen_next(std::size_t front) const { return fronts[front].seen + fronts[front].slots(); }

    // What is kept of one direction of one image: gates, h, c.
    Index saved_gates() const { return cells * blocks * WIDE; }
    Index saved_hidden() const { return slots * line; }
    Index saved_cell() const { return slots * padded; }
    Index saved() const { return saved_gates() + saved_hidden() + saved_cell(); }
    // Of an image: its directions, and the sum of their maps if that is not the output.
    Index saved_image(const Problem& p) const {
        return round_up(p.directions * saved() + (p.outputs > 0 ? cells * p.hidden : 0), 16);
    }
};

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
    }
};

// The rows of a front in a map: run(row, its features), for the cells of which the row `below` further down exists.
template <typename Float, typename Run>
INLINE void for_rows(const Problem& p, const Plan& plan, const Front& front, Index d, Index below, const Map<Float>& map,
                     Index image, Index images, Run run) {
    const Index col = d == 0 ? front.col : p.width - 1 - front.col;
    const Index step = (plan.down * map.width + (d == 0 ? plan.across : -plan.across)) * map.features;
    const Index image_step = map.height * map.width * map.features;
    const Index cells = std::min(front.cells, plan.down ? p.height - below - front.row : front.cells);
    if (!plan.down && front.row + below >= p.height) return;
    Float* cell = map.at(image, front.row + below, col);
    for (Index m = 0; m < cells * images; cell += step) {
        Float* to = cell;
        for (Index b = 0; b < images; ++b, ++m, to += image_step) run(m, to);
    }
}

void gather(const Problem& p, const Plan& plan, const Front& front, Index d, Index image, Index images, float* rows) {
    const Index margin = (p.taps - 1) * images;
    std::fill(rows, rows + margin * plan.input_line, 0.0f);
    rows += margin * plan.input_line;
    const Map<const float> x{p.x, p.height, p.width, p.features};
    for_rows(p, plan, front, d, 0, x, image, images, [&](Index m, const float* from) {
        copy_row(rows + m * plan.input_line, from, p.features);
    });
}

void fill_rows(float* rows, Index count, Index line, const float* values, Index features, Index padded) {
    for (Index m = 0; m < count; ++m) {
        std::copy(values, values + features, rows + m * line);
        std::fill(rows + m * line + features, rows + m * line + padded, 0.0f);
    }
}

// Ask for memory that will be needed soon: an order that is not sequential hides it from the processor's own guesses.
INLINE void prefetch(const float* from, Index floats) {
    for (Index k = 0; k < floats; k += 16) __builtin_prefetch(from + k, 0, 2);
}

// Tasks: parts of at most PART images in `count` groups; group n has parts first(n) ... first(n + 1) - 1.
struct Tasks {
    Index images, parts, count, batch;
    Tasks(const Problem& p, int threads) : batch(p.batch) {
        images = std::max<Index>(1, std::min(PART, (p.batch + threads - 1) / threads));
        parts = (p.batch + images - 1) / images;
        count = std::min<Index>(parts, threads == 1 ? 1 : 2 * threads);
    }
    Index first(Index task) const { return parts * task / count; }
    Index in_part(Index part) const { return std::min(images, batch - part * images); }
};

// ---------------------------------------------------------------------------------------------------------- forward

// One direction of one part.
void scan(const Problem& p, const Plan& plan, const std::vector<std::vector<Piece>>& groups, const float* weights,
          const float* bias, Index d, Index image, Index images, const Map<float>& hidden_map, float* saved,
          float* input, float* partial, float* ring) {
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

        for (Index block = 0; block < plan.blocks; ++block) {
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
                    for (Index r = 0; r < M; ++r) {
                        const Vec o = sigmoid(acc[r][0]), f = sigmoid(acc[r][1]), i = sigmoid(acc[r][2]);
                        const Vec g = tanh(acc[r][3]);
                        const Vec before = load(seen_cell + (m + r + plan.predecessor * images) * plan.padded + block * V);
                        const Vec c = f * before + i * g;
                        store(cell + (m + r) * plan.padded + block * V, c);
                        store(hidden + (m + r) * plan.line + block * V, o * tanh(c));
                        if (gates != nullptr) {
                            float* to = gates + (block * rows + m + r) * WIDE;
                            store_away(to, o);
                            store_away(to + V, f);
                            store_away(to + 2 * V, i);
                            store_away(to + 3 * V, g);
                        }
                    }
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
    const ForwardProduct projection(p.hidden, p.outputs, p.out_weight, p.out_bias);
    const Tasks tasks(p, threads);
    run_tasks(tasks.count, threads, [&](Index task) {
        const Index rows = plan.widest * tasks.images;
        const Buffer input = allocate(rows * plan.input_line), partial = allocate(rows * WIDE);
        const Buffer ring = allocate(saved == nullptr ? 2 * rows * (plan.line + plan.padded) : 0);
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
                     d, image, images, hidden_map, kept == nullptr ? nullptr : kept + d * images * plan.saved(),
                     input.get(), partial.get(), ring.get());
            }
            if (p.outputs > 0)
                for (Index row = 0; row < positions; row += CHUNK)
                    projection.run(std::min(CHUNK, positions - row), h + row * p.hidden,
                                   p.residual ? x + row * p.features : nullptr,
                                   output + (image * plan.cells + row) * p.outputs);
        }
    });
}

// --------------------------------------------------------------------------------------------------------- backward

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
    for (Index block = 0; block < plan.blocks; ++block) {
        float* to = sums + block * plan.depth * WIDE;
        for (int kind = 0; kind < 2; ++kind) {
            const bool is_input = kind == 0;
            const Index taps = is_input ? p.taps : p.neighbours, features = is_input ? p.features : p.hidden;
            const Index line = is_input ? plan.input_line : plan.line;
            for (Index tap = 0; tap < taps; ++tap, to += features * WIDE)
                for_tiles(features, [&](auto size, Index m) __attribute__((always_inline)) {
                    constexpr Index M = decltype(size)::value;
                    Vec acc[M][GATES];
#pragma GCC unroll 8
                    for (Index r = 0; r < M; ++r)
#pragma GCC unroll 8
                        for (Index gate = 0; gate < GATES; ++gate) acc[r][gate] = load(to + (m + r) * WIDE + gate * V);
                    for (const Pending& front : pending) {
                        const float* left = (is_input ? front.input : front.seen) + tap * images * line + m;
                        multiply<M, GATES>(acc, left, 1, line, front.gates + block * front.rows * WIDE, WIDE, front.rows);
                    }
#pragma GCC unroll 8
                    for (Index r = 0; r < M; ++r)
#pragma GCC unroll 8
                        for (Index gate = 0; gate < GATES; ++gate) store(to + (m + r) * WIDE + gate * V, acc[r][gate]);
                });
        }
    }
}

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

    Workspace(const Problem& p, const Plan& plan, Index images) : rows(plan.widest * images), d_output(rows) {
        // By cells, not rows, as the last part of a task may have fewer images.
        flush = (FLUSH + images - 1) / images;
        Index waiting = 0, inputs = 0, most = 0;
        for (std::size_t n = plan.fronts.size(); n-- > 0;) {
            waiting += plan.fronts[n].cells;
            inputs += plan.fronts[n].cells + p.taps - 1;
            most = std::max(most, inputs * images);
            if (waiting >= flush) waiting = inputs = 0;
        }
        input = allocate(most * plan.input_line);
        d_gates = allocate(most * plan.blocks * WIDE);
        d_input = allocate(rows * plan.input_line);
        for (int n = 0; n < 2; ++n) {
            d_hidden[n] = allocate(rows * plan.line);
            d_cell[n] = allocate(rows * plan.padded);
        }
    }
};

void scan_back(const Problem& p, const Plan& plan, const BackwardWeights& weights, const Map<const float>& d_hidden_map,
               float* d_x, Index d, Index image, Index images, const float* saved, Workspace& work, const Sums& layout,
               float* sums) {
    const float* gates = saved + images * plan.saved_gates();
    const float* hidden_arena = gates;
    const float* cell_arena = hidden_arena + images * plan.saved_hidden();
    float *input = work.input.get(), *d_gates = work.d_gates.get();
    std::fill(work.d_hidden[0].get(), work.d_hidden[0].get() + work.rows * plan.line, 0.0f);
    std::fill(work.d_cell[0].get(), work.d_cell[0].get() + work.rows * plan.padded, 0.0f);

    for (std::size_t n = plan.fronts.size(); n-- > 0;) {
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
        for (Index first = 0; first < count; first += 4) {
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
            add_weight_gradients(p, plan, work.pending, images, sums);
            work.pending.clear();
            work.pending_cells = 0;
            input = work.input.get();
            d_gates = work.d_gates.get();
        }
        std::swap(work.d_hidden[0], work.d_hidden[1]);
        std::swap(work.d_cell[0], work.d_cell[1]);
    }
}

void backward(const Problem& p, const Gradients& gradients, int threads) {
    const Plan plan(p);
    const BackwardWeights weights(p, plan);
    const BackwardProduct projection(p.hidden, p.outputs, p.out_weight);
    const Tasks tasks(p, threads);
    const Sums layout(plan);
    const Index projected = p.outputs > 0 ? projection.sums_size : 0, size = p.directions * layout.size + projected;
    const Buffer sums = allocate(std::max<Index>(1, tasks.count) * size);
    if (p.batch == 0) std::fill(sums.get(), sums.get() + size, 0.0f);
    run_tasks(tasks.count, threads, [&](Index task) {
        float* own = sums.get() + task * size;
        std::fill(own, own + size, 0.0f);
        Workspace work(p, plan, tasks.images);
        const Buffer d_map = allocate(p.outputs > 0 ? tasks.images * plan.cells * p.hidden : 0);
        const Buffer narrow = projection.scratch();
        for (Index part = tasks.first(task); part < tasks.first(task + 1); ++part) {
            const Index image = part * tasks.images, images = tasks.in_part(part), positions = images * plan.cells;
            const float* kept = gradients.saved + image * plan.saved_image(p);
            const float* d_h = gradients.output + image * plan.cells * p.hidden;
            float* d_x = gradients.x + image * plan.cells * p.features;
            prefetch(p.x + image * plan.cells * p.features, positions * p.features);
            if (p.outputs > 0) {
                const float* h = kept + images * p.directions * plan.saved();
                const float* d_output = gradients.output + image * plan.cells * p.outputs;
                for (Index row = 0; row < positions; row += CHUNK)
                    projection.run(std::min(CHUNK, positions - row), h + row * p.hidden, d_output + row * p.outputs, false,
                                   d_map.get() + row * p.hidden, own + p.directions * layout.size, narrow.get());
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
                          layout, of_direction);
            }
        }
    });

    // Add up the tasks, always in the same order, and undo the packing.
    const Index count = std::max<Index>(1, tasks.count);
    run_tasks(p.directions * plan.blocks, threads, [&](Index n) {
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
        projection.unpack(total, gradients.out_weight, gradients.out_bias);
    }
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
const RecurrentKernel recurrent = {saved_size, forward, backward, states};

}  // namespace pixelrnn::PIXELRNN_ISA
