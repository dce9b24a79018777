// Work that is shared among threads. Included by files that are built for each instruction set.

#pragma once

#include "front_lstm.hpp"
#include "interrupts.hpp"

namespace pixelrnn::PIXELRNN_ISA {
namespace {

// Call run(n) for n = 0 … count - 1, each a task, on so many threads. A task that works for long calls `interrupts.check()`
// between its parts.
//
// An exception must not leave a parallel region, as it would end the process. The first that a task throws, such as
// std::bad_alloc, is thrown again when all have ended; tasks that have not begun are left out.
template <typename Run>
void run_tasks(Index count, int threads, Interrupts& interrupts, Run run) {
    if (threads == 1 || count == 1) {
        for (Index n = 0; n < count; ++n) {
            interrupts.check();
            run(n);
        }
        return;
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (Index n = 0; n < count; ++n) {
        try {
            interrupts.check();
            run(n);
        } catch (...) {
            interrupts.fail(std::current_exception());
        }
    }
    interrupts.rethrow();
}

}  // namespace
}  // namespace pixelrnn::PIXELRNN_ISA
