// C++17: a model that owns its file, views instead of pointers, and no way to forget a release.
// Writes a model by rows to a temporary file as an application would ship it, maps the file, and
// lists the concepts of a few words with their names.
#define MSAE_IMPLEMENTATION
#include "../msae.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#define HAS_MMAP 1
#endif

namespace {

// What an error is about is the caller's to say.
[[noreturn]] void fail(const msae_error &error, const std::string &path = "msae") {
    throw std::runtime_error(path + ": " + error.message);
}

// What std::span will be.
template <class T> class Span {
  public:
    Span(T *data, std::size_t size) : data_(data), size_(size) {
    }
    template <class Container>
    Span(Container &container) : Span(std::data(container), std::size(container)) {
    }
    T *data() const {
        return data_;
    }
    std::size_t size() const {
        return size_;
    }
    T *begin() const {
        return data_;
    }
    T *end() const {
        return data_ + size_;
    }
    T &operator[](std::size_t i) const {
        return data_[i];
    }

  private:
    T *data_;
    std::size_t size_;
};

// A file in memory: mapped where the system can, read where it cannot.
class File {
  public:
    explicit File(const std::filesystem::path &path) : size_(std::filesystem::file_size(path)) {
#ifdef HAS_MMAP
        const int file = ::open(path.c_str(), O_RDONLY);
        void *bytes =
            file < 0 ? MAP_FAILED : ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
        if (file >= 0) ::close(file);
        if (bytes == MAP_FAILED) throw std::runtime_error("cannot be mapped: " + path.string());
        bytes_ = bytes;
#else
        copy_.resize(size_ / sizeof(copy_[0]) + 1);
        std::ifstream(path, std::ios::binary)
            .read(reinterpret_cast<char *>(copy_.data()), static_cast<std::streamsize>(size_));
        bytes_ = copy_.data();
#endif
    }
    File(File &&other) noexcept
        : size_(other.size_), bytes_(std::exchange(other.bytes_, nullptr)),
          copy_(std::move(other.copy_)) {
    }
    File &operator=(File &&) = delete;
    ~File() {
#ifdef HAS_MMAP
        if (bytes_) ::munmap(bytes_, size_);
#endif
    }
    const void *data() const {
        return bytes_;
    }
    std::size_t size() const {
        return size_;
    }

  private:
    std::size_t size_;
    void *bytes_ = nullptr;
    std::vector<double> copy_; // (aligned for any float)
};

// A model over a mapped file. Moves with it; one encoding at a time.
class Concepts {
  public:
    explicit Concepts(File file) : file_(std::move(file)) {
        msae_error error;
        if (msae_map(&model_, file_.data(), file_.size(), nullptr, &error) != MSAE_OK) fail(error);
        workspace_.resize(msae_workspace_bytes(&model_, 1));
    }
    Concepts(const Concepts &) = delete;
    Concepts &operator=(const Concepts &) = delete;
    ~Concepts() {
        msae_model_free(&model_);
    }

    // The strongest of them; the view is good until the next call.
    Span<const msae_code> encode(Span<const float> x, std::size_t k) {
        if (x.size() != model_.n_inputs) throw std::invalid_argument("x has another length");
        std::size_t count;
        codes_.resize(k);
        if (msae_encode(&model_, workspace_.data(), x.data(), k, codes_.data(), &count) != MSAE_OK)
            throw std::invalid_argument("x has a NaN or Inf, or gives one");
        return {codes_.data(), count};
    }
    std::vector<float> decode(Span<const msae_code> codes) const {
        std::vector<float> out(model_.n_inputs);
        msae_decode(&model_, codes.data(), codes.size(), NULL, out.data());
        return out;
    }
    const msae_model &model() const {
        return model_;
    }

  private:
    File file_;
    msae_model model_;
    std::vector<unsigned char> workspace_;
    std::vector<msae_code> codes_;
};

// Lines of a text, without copies of them.
class Words {
  public:
    explicit Words(const std::filesystem::path &path) : file_(path) {
        std::string_view text(static_cast<const char *>(file_.data()), file_.size());
        while (!text.empty()) {
            const std::size_t end = std::min(text.find('\n'), text.size());
            words_.push_back(text.substr(0, end));
            text.remove_prefix(std::min(end + 1, text.size()));
        }
    }
    std::string_view operator[](std::size_t i) const {
        return words_[i];
    }
    std::size_t size() const {
        return words_.size();
    }
    std::optional<std::size_t> find(std::string_view word) const {
        const auto found = std::find(words_.begin(), words_.end(), word);
        if (found == words_.end()) return std::nullopt;
        return static_cast<std::size_t>(found - words_.begin());
    }

  private:
    File file_;
    std::vector<std::string_view> words_;
};

struct Release {
    msae_data *data;
    ~Release() {
        msae_data_free(data);
    }
};

// What an application would have been shipped with: a trained model of bfloats, by rows.
std::vector<msae_hit> make_model(const msae_data &vectors, const std::string &path) {
    msae_train_desc desc = msae_train_desc();
    msae_trainer trainer;
    msae_model small;
    msae_error error;
    desc.model.n_inputs = vectors.cols;
    desc.model.n_latents = 512;
    desc.model.nesting_start = 8;
    desc.batch = 256;
    desc.epochs = 2;
    desc.lr = 1e-3f;
    msae_top_desc top{};
    top.top = 1;
    top.k = 8;
    std::vector<msae_hit> strongest(desc.model.n_latents);
    std::vector<std::size_t> counts(desc.model.n_latents);
    if (msae_trainer_init(&trainer, &desc, &error) != MSAE_OK) fail(error);
    const msae_source source = msae_source_data(&vectors);
    msae_status status = msae_trainer_fit(&trainer, &source, nullptr, nullptr, nullptr, &error);
    if (status == MSAE_OK) {
        status =
            msae_top_rows(&trainer.model, &vectors, &top, strongest.data(), counts.data(), &error);
    }
    if (status == MSAE_OK) {
        status = msae_compact(&trainer.model, MSAE_BF16, nullptr, &small, &error);
    }
    msae_trainer_free(&trainer);
    if (status != MSAE_OK) fail(error);
    status = msae_save_file(&small, path.c_str(), &error);
    msae_model_free(&small);
    if (status != MSAE_OK) fail(error, path);
    return strongest;
}

void run() {
    const Words words("examples/data/glove_words.txt");
    const std::string path =
        (std::filesystem::temp_directory_path() / "msae_cpp17.safetensors").string();
    msae_data vectors;
    msae_error error;
    const char *const data = "examples/data/glove_f16.npy";
    if (msae_data_load(&vectors, msae_from_file(data), nullptr, nullptr, &error) != MSAE_OK)
        fail(error, data);
    const Release release{&vectors};
    const std::vector<msae_hit> names = make_model(vectors, path);
    {
        Concepts concepts{File(path)};
        for (const std::string_view word : {"piano", "monday", "chemistry"}) {
            const auto row = words.find(word);
            if (!row) continue;
            std::vector<float> x(vectors.cols);
            msae_data_read(&vectors, *row, 1, x.data());
            const auto codes = concepts.encode(x, 5);
            std::printf("%-10.*s", static_cast<int>(word.size()), word.data());
            for (const auto &[latent, value] : codes) {
                const std::string_view name = words[names[latent].row];
                std::printf(" %.*s (%.2f)", static_cast<int>(name.size()), name.data(),
                            static_cast<double>(value));
            }
            float off = 0, all = 0;
            const std::vector<float> rebuilt = concepts.decode(codes);
            for (std::size_t i = 0; i < x.size(); i++) {
                off += (x[i] - rebuilt[i]) * (x[i] - rebuilt[i]);
                all += x[i] * x[i];
            }
            std::printf(", of which five concepts miss %.0f %%\n",
                        static_cast<double>(100 * off / all));
        }
    }
    std::filesystem::remove(path);
}

} // namespace

int main() {
    try {
        run();
    } catch (const std::exception &problem) {
        std::fprintf(stderr, "cpp17: %s (run me from the folder that holds examples/)\n",
                     problem.what());
        return 1;
    }
    return 0;
}
