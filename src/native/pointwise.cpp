// 1 × 1 convolutions, forward and backward, each in one pass over the positions. Compiled once for each instruction set.

#include "pointwise.hpp"

#include "product.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// How positions are shared among tasks.
struct Share {
    Index rows, count;
    Share(Index rows, int threads) : rows(rows) {
        const Index chunks = (rows + CHUNK - 1) / CHUNK;
        count = threads == 1 ? 1 : std::max<Index>(1, std::min<Index>(4 * threads, chunks / 4));
    }
    // Call run(first, rows) for each chunk of a task.
    template <typename Run>
    void for_chunks(Index task, Run run) const {
        const Index end = rows * (task + 1) / count;
        for (Index first = rows * task / count; first < end; first += CHUNK) run(first, std::min(CHUNK, end - first));
    }
};

const float* rectified(const Product& p, const float* x, Index rows, float* scratch) {
    if (!p.rectify) return x;
    rectify_row(scratch, x, rows * p.features);
    return scratch;
}

void forward(const Product& p, const float* base, float* output, int threads) {
    const ForwardProduct product(p.features, p.outputs, p.weight, p.bias);
    const Share share(p.rows, threads);
    run_tasks(share.count, threads, [&](Index task) {
        const Buffer scratch = allocate(p.rectify ? CHUNK * p.features : 0);
        share.for_chunks(task, [&](Index row, Index rows) {
            const float* x = rectified(p, p.x + row * p.features, rows, scratch.get());
            product.run(rows, x, base == nullptr ? nullptr : base + row * p.outputs, output + row * p.outputs);
        });
    });
}

void backward(const Product& p, const float* d_output, float* d_x, float* d_weight, float* d_bias, int threads) {
    const BackwardProduct product(p.features, p.outputs, p.weight);
    const Share share(p.rows, threads);
    const Buffer sums = allocate(share.count * product.sums_size);
    run_tasks(share.count, threads, [&](Index task) {
        float* own = sums.get() + task * product.sums_size;
        std::fill(own, own + product.sums_size, 0.0f);
        const Buffer scratch = allocate(p.rectify ? CHUNK * p.features : 0), narrow = product.scratch();
        share.for_chunks(task, [&](Index row, Index rows) {
            const float* x = rectified(p, p.x + row * p.features, rows, scratch.get());
            product.run(rows, x, d_output + row * p.outputs, p.rectify, d_x + row * p.features, own, narrow.get());
        });
    });
    // Add up the tasks, always in the same order.
    for (Index task = 1; task < share.count; ++task)
        add_row(sums.get(), sums.get() + task * product.sums_size, product.sums_size);
    product.unpack(sums.get(), d_weight, d_bias);
}

}  // namespace

extern const PointwiseKernel pointwise;
const PointwiseKernel pointwise = {forward, backward};

}  // namespace pixelrnn::PIXELRNN_ISA
