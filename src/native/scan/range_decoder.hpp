// The entropy decoder of archives; codec/range_coder.py defines it. It knows nothing of networks.

#pragma once

#include <cstdint>
#include <vector>

namespace pixelrnn {

class RangeDecoder {
public:
    static constexpr int PRECISION = 24;  // frequencies of all symbols add up to 2 to this

    explicit RangeDecoder(std::vector<std::uint32_t> words) : words_(std::move(words)) {
        point_ = static_cast<std::uint64_t>(word(0)) << 32 | word(1);
    }

    // The next symbol, given the frequencies of all; -1 if no encoder with such frequencies wrote the words.
    std::int64_t decode(const std::vector<std::int64_t>& frequencies) {
        const std::uint64_t scale = range_ >> PRECISION, quotient = (point_ - lower_) / scale;
        std::uint64_t before = 0;
        for (std::size_t symbol = 0; symbol < frequencies.size(); ++symbol) {
            const auto frequency = static_cast<std::uint64_t>(frequencies[symbol]);
            if (quotient < before + frequency) {
                narrow(scale, before, frequency);
                return static_cast<std::int64_t>(symbol);
            }
            before += frequency;
        }
        return -1;
    }
    // Whether more words were asked for than there are, by more than what an encoder leaves out.
    bool overrun() const { return read_ > words_.size() + 2; }
    // Whether what was decoded has just these words; some encoders end with one more, which is zero.
    bool finished() const {
        if (!any_) return words_.empty();
        return words_.size() + 1 == read_ || (words_.size() == read_ && words_.back() == 0);
    }

private:
    std::uint32_t word(std::size_t place) const { return place < words_.size() ? words_[place] : 0; }
    void narrow(std::uint64_t scale, std::uint64_t before, std::uint64_t frequency) {
        any_ = true;
        lower_ += scale * before;
        range_ = scale * frequency;
        if (range_ >> 32 == 0) {
            lower_ <<= 32;
            range_ <<= 32;
            point_ = point_ << 32 | word(read_++);
        }
    }

    std::vector<std::uint32_t> words_;
    std::uint64_t lower_ = 0, range_ = ~std::uint64_t{0}, point_ = 0;
    std::size_t read_ = 2;
    bool any_ = false;
};

}  // namespace pixelrnn
