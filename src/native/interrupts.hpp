// How a call that works for long ends before it is done: because one of its tasks failed, or because Python has a signal to
// handle, such as Ctrl-C.

#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>

namespace pixelrnn {

// One for each call of a kernel, made by the thread that calls it, which does not hold the interpreter's lock. Tasks get it
// by reference.
class Interrupts {
public:
    Interrupts();
    // To be called between pieces of work that take about a millisecond; it costs some 10 ns. In Python's main thread it
    // lets Python handle its signals, every 50 ms, and throws what a handler raises. In the others, and there, it throws
    // `Stopped` once a task has failed.
    void check();

    // For `run_tasks` (tasks.hpp): remember the first exception of a task; and throw it, if there is one.
    void fail(std::exception_ptr error) noexcept;
    void rethrow() const;

    struct Stopped : std::exception {
        const char* what() const noexcept override { return "another task has failed"; }
    };

private:
    void look();

    const std::thread::id caller_;
    std::int64_t next_look_;  // in ms
    bool asked_ = false;  // whether the caller is Python's main thread
    std::atomic<bool> stopped_{false};
    std::exception_ptr error_;
};

}  // namespace pixelrnn
