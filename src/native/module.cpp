// The Python side: the builds of the kernels that this processor can run. What comes in was checked in native.py.

#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cstdint>
#include <string>

#include "amx.hpp"
#include "convolution.hpp"
#include "front_lstm.hpp"
#include "scan.hpp"

namespace nb = nanobind;

namespace pixelrnn {

// The builds that CMakeLists.txt makes, best first.
#if defined(__x86_64__)
#define PIXELRNN_KERNELS(X) X(avx512) X(avx2) X(baseline)
#else
#define PIXELRNN_KERNELS(X) X(baseline)
#endif

#define PIXELRNN_DECLARE(name)                  \
    namespace name {                            \
    extern const RecurrentKernel recurrent;     \
    extern const ConvolutionKernel convolution; \
    extern const ScanKernel scan;               \
    }
PIXELRNN_KERNELS(PIXELRNN_DECLARE)

namespace {

// Everything that is built for one instruction set.
struct Build {
    const char* name;
    const RecurrentKernel& recurrent;
    const ConvolutionKernel& convolution;
    const ScanKernel& scan;
};

// Memory that the caller has allocated and checked; PyTorch's tensors come as addresses, which costs least.
using Address = std::uintptr_t;

float* at(Address address) { return reinterpret_cast<float*>(address); }

bool can_run(const std::string& name) {
#if defined(__x86_64__)
    if (name == "avx512")
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    if (name == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return name == "baseline";
}

// Batch, height, width, features, hidden, directions, neighbours, taps, outputs.
using Sizes = std::array<Index, 9>;
// Input weight and bias, weight, initial h and c, output weight and bias.
using Weights = std::array<Address, 7>;

// Diagonal, residual, halves.
using Options = std::array<bool, 3>;

Problem problem_of(const Sizes& s, const Options& o, Address x, const Weights& w) {
    return {s[0], s[1],  s[2],     s[3],     s[4],     s[5],     s[6],     s[7],     s[8],    o[0],
            o[1], o[2], at(x), at(w[0]), at(w[1]), at(w[2]), at(w[3]), at(w[4]), at(w[5]), at(w[6])};
}

void front_lstm(const Build& build, Sizes sizes, Options options, Address x, Weights weights, Address output,
                Address saved, int threads) {
    const Problem p = problem_of(sizes, options, x, weights);
    nb::gil_scoped_release release;
    build.recurrent.forward(p, at(output), at(saved), threads);
}

void front_lstm_backward(const Build& build, Sizes sizes, Options options, Address x, Weights weights,
                         Address d_output, Address saved, Address d_x, Weights d, int threads) {
    const Problem p = problem_of(sizes, options, x, weights);
    const Gradients gradients{at(d_output), at(saved), at(d_x),  at(d[0]), at(d[1]),
                              at(d[2]),     at(d[3]),  at(d[4]), at(d[5]), at(d[6])};
    nb::gil_scoped_release release;
    build.recurrent.backward(p, gradients, threads);
}

void states(const Build& build, Sizes sizes, Options options, Address saved, Address hidden, Address cell) {
    build.recurrent.states(problem_of(sizes, options, 0, {}), at(saved), at(hidden), at(cell));
}

Index saved_size(const Build& build, Sizes sizes, Options options) {
    return build.recurrent.saved_size(problem_of(sizes, options, 0, {}));
}

// Batch, height, width, features, outputs, kernel rows above the centre, kernel columns on either side of it.
using ConvolutionSizes = std::array<Index, 7>;

Convolution convolution_of(const ConvolutionSizes& s, bool rectify, Address x, Address weight, Address bias) {
    return {s[0], s[1], s[2], s[3], s[4], s[5], s[6], rectify, at(x), at(weight), at(bias)};
}

// Addresses of x, weight, bias, base and output.
void convolve(const Build& build, ConvolutionSizes sizes, bool rectify, std::array<Address, 5> a, int threads) {
    const Convolution c = convolution_of(sizes, rectify, a[0], a[1], a[2]);
    nb::gil_scoped_release release;
    build.convolution.forward(c, at(a[3]), at(a[4]), threads);
}

// Addresses of x, weight, and the gradients of output, of x from elsewhere, and of x, weight and bias.
void convolve_backward(const Build& build, ConvolutionSizes sizes, bool rectify, std::array<Address, 7> a, int threads) {
    const Convolution c = convolution_of(sizes, rectify, a[0], a[1], 0);
    nb::gil_scoped_release release;
    build.convolution.backward(c, at(a[2]), at(a[3]), at(a[4]), at(a[5]), at(a[6]), threads);
}

// Layer, registers of input, other and output, features, outputs, kernel rows above and columns beside, rectify; tensors.
using Line = std::tuple<std::array<Index, 9>, std::array<Address, 5>>;

// Height, width, slope.
std::unique_ptr<Scan> make_scan(const Build& build, const std::vector<Line>& lines, Index colours, Index levels,
                                Index registers, std::array<Index, 3> size, int threads) {
    Network network{colours, levels, registers, {}};
    for (const auto& [n, tensors] : lines) {
        Instruction i{static_cast<Layer>(n[0]), n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8] != 0, {}};
        for (std::size_t k = 0; k < tensors.size(); ++k) i.tensors[k] = at(tensors[k]);
        network.instructions.push_back(i);
    }
    nb::gil_scoped_release release;
    return build.scan.create(network, {size[0], size[1], size[2]}, threads);
}

std::int64_t* integers(Address address) { return reinterpret_cast<std::int64_t*>(address); }

void scan_step(Scan& scan, Address images, Index count, Address rows, Address cols, Index colour, Address outputs) {
    nb::gil_scoped_release release;
    scan.step(integers(images), {count, integers(rows), integers(cols)}, colour, at(outputs));
}

// Addresses of images, known, uniform and log_prob.
void scan_run(Scan& scan, Index first, Index end, std::array<Address, 4> a, double temperature) {
    const Drawing drawing{reinterpret_cast<const bool*>(a[1]), reinterpret_cast<const double*>(a[2]), temperature,
                          reinterpret_cast<double*>(a[3])};
    nb::gil_scoped_release release;
    scan.run(integers(a[0]), first, end, drawing);
}

}  // namespace

NB_MODULE(_native, module) {
    nb::set_leak_warnings(false);  // the operators registered with PyTorch live until the process ends
    nb::class_<Build>(module, "Build")
        .def_ro("name", &Build::name)
        .def_prop_ro("halves", [](const Build& build) { return std::string(build.name) == "avx512" && amx::available(); })
        .def("front_lstm", &front_lstm)
        .def("front_lstm_backward", &front_lstm_backward)
        .def("states", &states)
        .def("saved_size", &saved_size)
        .def("scan", &make_scan)
        .def("convolve", &convolve)
        .def("convolve_backward", &convolve_backward);
    nb::class_<Scan>(module, "Scan")
        .def_prop_ro("state_size", &Scan::state_size)
        .def("begin", &Scan::begin, nb::call_guard<nb::gil_scoped_release>())
        .def("step", &scan_step)
        .def("finish_row", &Scan::finish_row, nb::call_guard<nb::gil_scoped_release>())
        .def("run", &scan_run)
        .def("reorder", [](Scan& scan, Address from) { scan.reorder(integers(from)); });
    module.def("builds", [] {
        nb::list found;
#define PIXELRNN_ADD(isa) \
    if (can_run(#isa)) found.append(nb::cast(Build{#isa, isa::recurrent, isa::convolution, isa::scan}));
        PIXELRNN_KERNELS(PIXELRNN_ADD)
        return found;
    });
}

}  // namespace pixelrnn
