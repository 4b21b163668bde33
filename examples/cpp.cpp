// C++11: owning types around the library, and words that share concepts. Trains on the bundled word
// vectors, encodes all of them, and lists the words nearest to some others by the cosine of their
// sparse codes.
#define MSAE_IMPLEMENTATION
#include "../msae.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// What an error is about is the caller's to say.
void check(msae_status status, const msae_error &error, const std::string &path = "msae") {
    if (status != MSAE_OK) throw std::runtime_error(path + ": " + error.message);
}

class Data {
  public:
    explicit Data(const std::string &path) {
        msae_error error;
        check(msae_data_load(&data_, msae_from_file(path.c_str()), nullptr, nullptr, &error), error,
              path);
    }
    ~Data() {
        msae_data_free(&data_);
    }
    Data(const Data &) = delete;
    Data &operator=(const Data &) = delete;
    const msae_data *get() const {
        return &data_;
    }

  private:
    msae_data data_;
};

class Trainer {
  public:
    explicit Trainer(const msae_train_desc &desc) {
        msae_error error;
        check(msae_trainer_init(&trainer_, &desc, &error), error);
    }
    ~Trainer() {
        msae_trainer_free(&trainer_);
    }
    Trainer(const Trainer &) = delete;
    Trainer &operator=(const Trainer &) = delete;
    void fit(const Data &data) {
        const msae_source source = msae_source_data(data.get());
        msae_error error;
        check(msae_trainer_fit(&trainer_, &source, nullptr, nullptr, nullptr, &error), error);
    }
    const msae_model &model() const {
        return trainer_.model;
    }

  private:
    msae_trainer trainer_;
};

// Rows of k codes each, scaled to unit length.
using Codes = std::vector<std::vector<msae_code>>;

Codes encode(const msae_model &model, const msae_data &data, std::size_t k) {
    std::vector<float> x(data.rows * data.cols);
    std::vector<msae_code> flat(data.rows * k);
    std::vector<std::size_t> counts(data.rows);
    std::vector<char> workspace(msae_workspace_bytes(&model, data.rows));
    msae_error error;
    msae_data_read(&data, 0, data.rows, x.data());
    const msae_rows room = {flat.data(), counts.data(), k};
    check(msae_encode_rows(&model, workspace.data(), x.data(), data.rows, k, &room, &error), error);
    Codes rows;
    for (std::size_t r = 0; r < data.rows; r++) {
        const auto first = flat.begin() + static_cast<std::ptrdiff_t>(r * k);
        rows.emplace_back(first, first + static_cast<std::ptrdiff_t>(counts[r]));
        float square = 0;
        for (const msae_code &code : rows.back()) square += code.value * code.value;
        for (msae_code &code : rows.back()) code.value /= std::sqrt(square);
    }
    return rows;
}

float similarity(const std::vector<msae_code> &a, const std::vector<msae_code> &b) {
    float sum = 0;
    for (const msae_code &one : a) {
        for (const msae_code &other : b) {
            if (one.latent == other.latent) sum += one.value * other.value;
        }
    }
    return sum;
}

std::vector<std::string> read_words(const std::string &path) {
    std::vector<std::string> words;
    std::ifstream file(path);
    for (std::string word; std::getline(file, word);) words.push_back(word);
    return words;
}

void print_nearest(const Codes &codes, const std::vector<std::string> &words, std::size_t query) {
    std::vector<std::pair<float, std::size_t>> ranked;
    for (std::size_t r = 0; r < codes.size(); r++) {
        if (r != query) ranked.emplace_back(similarity(codes[query], codes[r]), r);
    }
    std::partial_sort(ranked.begin(), ranked.begin() + 8, ranked.end(),
                      std::greater<std::pair<float, std::size_t>>());
    std::printf("%-10s", words[query].c_str());
    for (std::size_t i = 0; i < 8; i++) std::printf(" %s", words[ranked[i].second].c_str());
    std::printf("\n");
}

void run() {
    const Data data("examples/data/glove_f16.npy");
    const std::vector<std::string> words = read_words("examples/data/glove_words.txt");
    if (words.size() != data.get()->rows) throw std::runtime_error("words and vectors differ");
    msae_train_desc desc = msae_train_desc();
    desc.model.n_inputs = data.get()->cols;
    desc.model.n_latents = 1024;
    desc.model.nesting_start = 16;
    desc.batch = 256;
    desc.epochs = 4;
    desc.lr = 1e-3f;
    Trainer trainer(desc);
    trainer.fit(data);
    const Codes codes = encode(trainer.model(), *data.get(), 16);
    for (const char *query : {"piano", "monday", "sweden", "chemistry", "cheese", "battle"}) {
        const auto found = std::find(words.begin(), words.end(), query);
        print_nearest(codes, words, static_cast<std::size_t>(found - words.begin()));
    }
}

} // namespace

int main() {
    try {
        run();
    } catch (const std::exception &problem) {
        std::fprintf(stderr, "cpp: %s (run me from the folder that holds examples/)\n",
                     problem.what());
        return 1;
    }
    return 0;
}
