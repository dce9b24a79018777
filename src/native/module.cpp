// The Python side: the builds of the kernels that this processor can run. What comes in was checked in kernels/native.

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
#include "scan/scan.hpp"

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
    extern const ScanKernel<float> scan;        \
    }                                           \
    namespace name##_exact {                    \
    extern const ScanKernel<double> scan;       \
    }
PIXELRNN_KERNELS(PIXELRNN_DECLARE)

namespace {

// Everything that is built for one instruction set.
struct Build {
    const char* name;
    const RecurrentKernel& recurrent;
    const ConvolutionKernel& convolution;
    const ScanKernel<float>& scan;
    const ScanKernel<double>& exact_scan;
};

// Memory that the caller has allocated and checked; PyTorch's tensors come as addresses, which costs least.
using Address = std::uintptr_t;

template <typename Real = float>
Real* at(Address address) {
    return reinterpret_cast<Real*>(address);
}

bool can_run(const std::string& name) {
#if defined(__x86_64__)
    if (name == "avx512")
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    if (name == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return name == "baseline";
}

// Batch, height, width, features, hidden, directions, neighbours, taps, outputs, images scanned together.
using Sizes = std::array<Index, 10>;
// Input weight and bias, weight, initial h and c, output weight and bias.
using Weights = std::array<Address, 7>;

// Diagonal, residual, halves.
using Options = std::array<bool, 3>;

Problem problem_of(const Sizes& s, const Options& o, Address x, const Weights& w) {
    return {s[0], s[1], s[2],  s[3],     s[4],     s[5],     s[6],     s[7],     s[8],     s[9],    o[0],
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

// Maps of input, other and output, features, outputs, kernel rows above and columns beside, rectify, halves;
// weight and bias.
using ChainLine = std::tuple<std::array<Index, 9>, std::array<Address, 2>>;

Chain chain_of(std::array<Index, 3> size, const std::vector<ChainLine>& lines, const std::vector<Address>& maps) {
    Chain chain{size[0], size[1], size[2], {}, {}};
    for (const auto& [n, tensors] : lines)
        chain.lines.push_back({n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7] != 0, n[8] != 0, at(tensors[0]), at(tensors[1])});
    for (const Address map : maps) chain.maps.push_back(at(map));
    return chain;
}

// Sizes are batch, height and width.
void convolve(const Build& build, std::array<Index, 3> size, const std::vector<ChainLine>& lines, const std::vector<Address>& maps,
              int threads) {
    const Chain chain = chain_of(size, lines, maps);
    nb::gil_scoped_release release;
    build.convolution.forward(chain, threads);
}

// Addresses are the gradients of output, of x from elsewhere, and of x; then those of weight and bias of each line.
void convolve_backward(const Build& build, std::array<Index, 3> size, const std::vector<ChainLine>& lines,
                       const std::vector<Address>& maps, std::array<Address, 3> a, const std::vector<std::array<Address, 2>>& d,
                       int threads) {
    const Chain chain = chain_of(size, lines, maps);
    ChainGradients gradients{at(a[0]), at(a[1]), at(a[2]), {}, {}};
    for (const auto& each : d) {
        gradients.weights.push_back(at(each[0]));
        gradients.biases.push_back(at(each[1]));
    }
    nb::gil_scoped_release release;
    build.convolution.backward(chain, gradients, threads);
}

// Kind, registers of other and output, features, outputs, kernel rows above and columns on either side, rectify; registers of
// inputs; tensors.
using ScanInstruction = std::tuple<std::array<Index, 8>, std::vector<Index>, std::array<Address, 5>>;

// Height, width, slope.
using ScanSizes = std::array<Index, 3>;

// Colours, levels, numbers of a symbol, kind of curve, means and scales of each.
using HeadNumbers = std::array<Index, 6>;

template <typename Real>
std::unique_ptr<Scan<Real>> make_scan(const ScanKernel<Real>& kernel, const std::vector<ScanInstruction>& instructions,
                                      const HeadNumbers& head, Index registers, const ScanSizes& size, int threads,
                                      const Lookups* lookups) {
    Network<Real> network{head[0], {head[1], head[2], static_cast<Curve>(head[3]), head[4], head[5]}, registers, {}, lookups};
    for (const auto& [n, inputs, tensors] : instructions) {
        Instruction<Real> i{static_cast<Kind>(n[0]), inputs, n[1], n[2], n[3], n[4], n[5], n[6], n[7] != 0, {}};
        for (std::size_t k = 0; k < tensors.size(); ++k) i.tensors[k] = at<Real>(tensors[k]);
        network.instructions.push_back(i);
    }
    nb::gil_scoped_release release;
    return kernel.create(network, {size[0], size[1], size[2]}, threads);
}

std::unique_ptr<Scan<float>> scan(const Build& build, const std::vector<ScanInstruction>& instructions, HeadNumbers head,
                                  Index registers, ScanSizes size, int threads) {
    return make_scan(build.scan, instructions, head, registers, size, threads, nullptr);
}

// Values of a function, and how many.
using LookupValues = std::tuple<Address, Index>;

std::unique_ptr<Scan<double>> exact_scan(const Build& build, const std::vector<ScanInstruction>& instructions, HeadNumbers head,
                                         Index registers, ScanSizes size, int threads, const std::array<LookupValues, 3>& functions) {
    const auto lookup = [&](std::size_t n) { return Lookup{at<double>(std::get<0>(functions[n])), std::get<1>(functions[n])}; };
    const Lookups lookups{lookup(0), lookup(1), lookup(2)};
    return make_scan(build.exact_scan, instructions, head, registers, size, threads, &lookups);
}

template <typename Real>
void scan_step(Scan<Real>& scan, Address images, Index count, Address rows, Address cols, Index colour, Address logits) {
    nb::gil_scoped_release release;
    scan.step(at<std::int64_t>(images), {count, at<std::int64_t>(rows), at<std::int64_t>(cols)}, colour, at<Real>(logits));
}

template <typename Real>
void scan_follow(Scan<Real>& scan, Address images, Index first, Index end, Address logits) {
    nb::gil_scoped_release release;
    scan.follow(at<std::int64_t>(images), first, end, at<Real>(logits));
}

// Addresses of images and of which pixels are free, and of exponentials, of which there are so many.
template <typename Real>
bool scan_decode(Scan<Real>& scan, Address images, Index first, Index end, Address free, RangeDecoder& decoder, Address exponentials,
                 Index count) {
    nb::gil_scoped_release release;
    return scan.decode(at<std::int64_t>(images), first, end, at<const bool>(free), decoder, at<const std::int64_t>(exponentials), count);
}

// Addresses of images, known, uniform and log_prob.
template <typename Real>
void scan_run(Scan<Real>& scan, Index first, Index end, std::array<Address, 4> a, double temperature) {
    const Drawing drawing{at<const bool>(a[1]), at<const double>(a[2]), temperature, at<double>(a[3])};
    nb::gil_scoped_release release;
    scan.run(at<std::int64_t>(a[0]), first, end, drawing);
}

template <typename Real>
void add_scan(nb::module_& module, const char* name) {
    nb::class_<Scan<Real>>(module, name)
        .def_prop_ro("state_size", &Scan<Real>::state_size)
        .def("begin", [](Scan<Real>& scan, Index batch, Address conditioning) { scan.begin(batch, at<Real>(conditioning)); },
             nb::call_guard<nb::gil_scoped_release>())
        .def("step", &scan_step<Real>)
        .def("finish_row", &Scan<Real>::finish_row, nb::call_guard<nb::gil_scoped_release>())
        .def("follow", &scan_follow<Real>)
        .def("decode", &scan_decode<Real>)
        .def("run", &scan_run<Real>)
        .def("reorder", [](Scan<Real>& scan, Address from) { scan.reorder(at<std::int64_t>(from)); },
             nb::call_guard<nb::gil_scoped_release>());
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
        .def("scan", &scan)
        .def("exact_scan", &exact_scan)
        .def("convolve", &convolve)
        .def("convolve_backward", &convolve_backward);
    nb::class_<RangeDecoder>(module, "RangeDecoder")
        .def("__init__",
             [](RangeDecoder* decoder, Address words, Index count) {
                 const auto* from = at<const std::uint32_t>(words);
                 new (decoder) RangeDecoder({from, from + count});
             },
             nb::call_guard<nb::gil_scoped_release>())
        .def("finished", &RangeDecoder::finished);
    add_scan<float>(module, "Scan");
    add_scan<double>(module, "ExactScan");
    module.def("builds", [] {
        nb::list found;
#define PIXELRNN_ADD(isa) \
    if (can_run(#isa)) found.append(nb::cast(Build{#isa, isa::recurrent, isa::convolution, isa::scan, isa##_exact::scan}));
        PIXELRNN_KERNELS(PIXELRNN_ADD)
        return found;
    });
}

}  // namespace pixelrnn
