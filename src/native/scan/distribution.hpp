// How the numbers that a network gives for a symbol are read as its distribution; as pixelrnn.heads.

#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "scan/scan.hpp"

namespace pixelrnn {

// Of the bell curve at 0 with scale 1: probabilities, and their logarithms.
struct Logistic {
    static double below(double x) { return 1 / (1 + std::exp(-x)); }
    static double log_below(double x) { return std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x))); }
    static double log_between(double low, double high, double width) {
        return log_below(high) + log_below(-low) + std::log(-std::expm1(-width));
    }
};

struct Normal {
    static double below(double x) { return std::erfc(-x * std::sqrt(0.5)) / 2; }
    static double log_below(double x) {
        if (x > -20) return std::log(below(x));
        // An asymptotic series, where erfc becomes too small to hold.
        const double r = 1 / (x * x);
        return -x * x / 2 - std::log(-x) - 0.91893853320467274178 + std::log1p(-r * (1 - r * (3 - r * (15 - 105 * r))));
    }
    static double log_between(double low, double high, double) {  // on the side where both are small
        const double log_high = log_below(low + high > 0 ? -low : high), log_low = log_below(low + high > 0 ? -high : low);
        return log_high + std::log(-std::expm1(log_low - log_high));
    }
};

// The distribution of a symbol.
template <typename Real>
class Distribution {
public:
    explicit Distribution(const Head& head)
        : head_(head), logits_(static_cast<std::size_t>(head.levels)), cumulative_(logits_.size()),
          curves_(static_cast<std::size_t>(head.means * head.scales)) {}

    // From the numbers of a colour, and the symbols of the pixel, `stride` from one to the next; those of earlier colours are read.
    void read(const Real* numbers, Index colour, const std::int64_t* symbols, Index stride, double temperature) {
        by_curves_ = head_.curve != Curve::none && temperature == 1;
        summed_ = false;
        if (head_.curve != Curve::none) read_curves(numbers, colour, symbols, stride);
        if (by_curves_) return;
        for (Index k = 0; k < head_.levels; ++k)
            logits_[k] = (head_.curve != Curve::none ? log_mass(k) : logit_of(numbers, k)) / temperature;
    }
    // Up to a constant.
    double logit(Index symbol) const { return by_curves_ ? log_mass(symbol) : logits_[symbol]; }
    // The symbol at which the cumulative distribution passes `uniform`.
    Index draw(double uniform) {
        sum();
        Index low = 0, high = head_.levels - 1;
        while (low < high) {
            const Index middle = (low + high) / 2;
            if (by_curves_ ? mass_up_to(middle) <= uniform : cumulative_[middle] <= uniform * total_) low = middle + 1;
            else high = middle;
        }
        return low;
    }
    double log_prob(Index symbol) {
        sum();
        return by_curves_ ? log_mass(symbol) : logits_[symbol] - highest_ - std::log(total_);
    }

private:
    struct Bell {
        double log_weight, weight, mean, narrow;
    };

    // Of a softmax; curves are normalised.
    void sum() {
        if (by_curves_ || summed_) return;
        summed_ = true;
        highest_ = *std::max_element(logits_.begin(), logits_.end());
        total_ = 0;
        for (Index k = 0; k < head_.levels; ++k) cumulative_[k] = total_ += logits_[k] == highest_ ? 1 : std::exp(logits_[k] - highest_);
    }
    double logit_of(const Real* numbers, Index k) const { return head_.levels > 2 ? numbers[k] : k == 0 ? 0.0 : numbers[0]; }

    void read_curves(const Real* numbers, Index colour, const std::int64_t* symbols, Index stride) {
        const Index n = head_.means * head_.scales;
        const Real *log_scales = numbers + n, *means = log_scales + n, *coupling = means + head_.means;
        const double step = 2.0 / static_cast<double>(head_.levels - 1), highest = *std::max_element(numbers, numbers + n);
        double total = 0;
        for (Index k = 0; k < n; ++k) total += std::exp(numbers[k] - highest);
        for (Index m = 0; m < head_.means; ++m) {
            double mean = means[m];
            for (Index c = 0; c < colour; ++c)
                mean += std::tanh(static_cast<double>(coupling[c * head_.means + m])) * (step * static_cast<double>(symbols[c * stride]) - 1);
            for (Index s = 0; s < head_.scales; ++s) {
                const Index k = m * head_.scales + s;
                const double log_weight = numbers[k] - highest - std::log(total);
                curves_[k] = {log_weight, std::exp(log_weight), mean, std::exp(-std::clamp(static_cast<double>(log_scales[k]), -LOG_SCALE, LOG_SCALE))};
            }
        }
    }
    // Where a level ends, in units of a curve.
    double upper_end(const Bell& bell, Index symbol) const {
        return (static_cast<double>(2 * symbol + 1) / static_cast<double>(head_.levels - 1) - 1 - bell.mean) * bell.narrow;
    }
    double mass_up_to(Index symbol) const { return head_.curve == Curve::logistic ? mass_up_to<Logistic>(symbol) : mass_up_to<Normal>(symbol); }
    double log_mass(Index symbol) const { return head_.curve == Curve::logistic ? log_mass<Logistic>(symbol) : log_mass<Normal>(symbol); }

    template <typename Shape>
    double mass_up_to(Index symbol) const {
        double sum = 0;
        for (const Bell& bell : curves_) sum += bell.weight * Shape::below(upper_end(bell, symbol));
        return sum;
    }
    template <typename Shape>
    double log_mass(Index symbol) const {
        double highest = -INFINITY, sum = 0;  // of e^(term - highest)
        for (const Bell& bell : curves_) {
            const double low = upper_end(bell, symbol - 1), high = upper_end(bell, symbol);
            const double term = bell.log_weight + (symbol == 0                  ? Shape::log_below(high)
                                                   : symbol == head_.levels - 1 ? Shape::log_below(-low)
                                                                                : Shape::log_between(low, high, bell.narrow * 2 / static_cast<double>(head_.levels - 1)));
            if (term > highest) {
                sum = sum * std::exp(highest - term) + 1;
                highest = term;
            } else {
                sum += std::exp(term - highest);
            }
        }
        return highest + std::log(sum);
    }

    static constexpr double LOG_SCALE = 7;  // of a curve, at least -7, at most 7

    Head head_;
    std::vector<double> logits_, cumulative_;
    std::vector<Bell> curves_;
    bool by_curves_ = false, summed_ = false;
    double highest_ = 0, total_ = 0;
};

}  // namespace pixelrnn
