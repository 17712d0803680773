// Batch norm, ReLU and 2x2 max-pooling with as few passes over memory as they allow, forward and backward.
//
// float32, channels_last, a multiple of 16 channels: one AVX-512 register holds 16 channels of a pixel. With
// z = a x + b, a = gamma / sqrt(var + eps), max-pooling commutes with z where a >= 0 and becomes a min-pooling of x where
// a < 0. So x is pooled as it is, and normalised afterwards: a quarter of the pixels. Backward, with g the gradient of z,
//     dx = a (g - mean(g)) - a xhat mean(g xhat) = a g + c x + d         c, d numbers of a channel
// where g is not 0 in one pixel of four at most, so that both means need the pooled pixels alone.
//
// Passes over the full images: two reads forward (statistics; pooling), one read and one write backward.
// Sums are taken image by image and then added in order: the same bits for any number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

typedef float V __attribute__((vector_size(64), aligned(4)));
typedef int32_t I __attribute__((vector_size(64), aligned(4)));
typedef float Q __attribute__((vector_size(16), aligned(4)));
typedef uint8_t B __attribute__((vector_size(16), aligned(1)));

constexpr int64_t L = 16;      // channels in a register
constexpr int64_t CHUNK = 64;  // pixels added up in float32 before they enter a sum in float64
constexpr int32_t DEAD = 4;    // in place of a position 0 to 3: ReLU let nothing through

static inline V load(const float* p) { return *reinterpret_cast<const V*>(p); }
static inline void store(float* p, V v) { *reinterpret_cast<V*>(p) = v; }
static inline V all(float x) { return V{} + x; }
static inline I positions(const uint8_t* p) { return __builtin_convertvector(*reinterpret_cast<const B*>(p), I); }
static inline V chosen(I mask, V a, V b) { return mask ? a : b; }

// Calls part(begin, end) for parts of 0 to count, in up to `threads` threads, none of them below `least`.
template <typename F>
static void parallel(int64_t count, int64_t least, int threads, const F& part) {
  const int64_t parts = std::min<int64_t>(threads, std::max<int64_t>(1, count / least));
  if (parts == 1) return part(int64_t{0}, count);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
  for (int64_t k = 0; k < parts; ++k) part(count * k / parts, count * (k + 1) / parts);
}

// Images (B, C, H, W) in channels_last, and the threads to work with.
struct Shape {
  int64_t images, channels, height, width;
  int threads;
  int64_t pixels() const { return height * width; }
};

// Adds up two vectors a pixel, in float64 above CHUNK pixels.
struct Sums {
  V first[4] = {}, second[4] = {};
  void flush(double* into, int64_t channels) {
    V a = (first[0] + first[1]) + (first[2] + first[3]), b = (second[0] + second[1]) + (second[2] + second[3]);
    for (int64_t i = 0; i < L; ++i) {
      into[i] += a[i];
      into[channels + i] += b[i];
    }
    for (int k = 0; k < 4; ++k) first[k] = second[k] = V{};
  }
};

// Calls pair(pixel, u, v) for every pixel of every image and returns the sums of u and v of each channel.
template <typename F>
static std::vector<double> summed(int64_t images, int64_t pixels, int64_t channels, int threads, const F& pair) {
  std::vector<double> parts(images * 2 * channels, 0.0);
  parallel(images, 1, threads, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n)
      for (int64_t c = 0; c < channels; c += L) {
        double* into = parts.data() + n * 2 * channels + c;
        const auto one = pair(c);
        for (int64_t p = 0; p < pixels; p += CHUNK) {
          Sums sums;
          const int64_t last = std::min(pixels, p + CHUNK);
          int64_t q = p;
          for (; q + 4 <= last; q += 4)
            for (int k = 0; k < 4; ++k) one(n * pixels + q + k, sums.first[k], sums.second[k]);
          for (; q < last; ++q) one(n * pixels + q, sums.first[0], sums.second[0]);
          sums.flush(into, channels);
        }
      }
  });
  std::vector<double> total(2 * channels, 0.0);
  for (int64_t n = 0; n < images; ++n)
    for (int64_t i = 0; i < 2 * channels; ++i) total[i] += parts[n * 2 * channels + i];
  return total;
}

// Mean and 1 / sqrt(var + eps) of each channel; the running ones follow as in torch.nn.BatchNorm2d.
static void statistics(const Shape& s, const float* data, float* running_mean, float* running_var, double momentum,
                       double eps, float* mean, float* scale) {
  const int64_t channels = s.channels;
  // Squares of distances from a value near the mean, so that nothing is lost where the mean is large.
  const std::vector<float> near(data, data + channels);
  const auto total = summed(s.images, s.pixels(), channels, s.threads, [&](int64_t c) {
    const V from = load(near.data() + c);
    return [=](int64_t pixel, V& first, V& second) {
      const V away = load(data + pixel * channels + c) - from;
      first += away;
      second += away * away;
    };
  });
  const double count = double(s.images * s.pixels());
  for (int64_t c = 0; c < channels; ++c) {
    const double away = total[c] / count, var = std::max(0.0, total[channels + c] / count - away * away);
    mean[c] = float(near[c] + away);
    scale[c] = float(1.0 / std::sqrt(var + eps));
    running_mean[c] = float((1 - momentum) * running_mean[c] + momentum * mean[c]);
    running_var[c] = float((1 - momentum) * running_var[c] + momentum * var * count / (count - 1));
  }
}

// a, b of z = a x + b.
struct Affine {
  std::vector<float> a, b;
  Affine(int64_t channels, const float* mean, const float* scale, const float* gamma, const float* beta)
      : a(channels), b(channels) {
    for (int64_t i = 0; i < channels; ++i) {
      a[i] = gamma[i] * scale[i];
      b[i] = beta[i] - a[i] * mean[i];
    }
  }
};

// a, c, d of dx = a g + c x + d, from the sums of g and of g (x - mean); and the gradients of gamma and beta.
struct Slopes {
  std::vector<float> a, c, d;
  Slopes(int64_t channels, const std::vector<double>& total, double count, const float* mean, const float* scale,
         const float* gamma, float* dgamma, float* dbeta)
      : a(channels), c(channels), d(channels) {
    for (int64_t i = 0; i < channels; ++i) {
      const double sum_g = total[i], sum_g_xhat = total[channels + i] * scale[i];
      dbeta[i] = float(sum_g);
      dgamma[i] = float(sum_g_xhat);
      a[i] = gamma[i] * scale[i];
      const double slope = -double(a[i]) * scale[i] * sum_g_xhat / count;
      c[i] = float(slope);
      d[i] = float(-a[i] * sum_g / count - slope * mean[i]);
    }
  }
};

extern "C" {

// [batch norm, max-pool 2, ReLU]: x (B, C, H, W) -> y (B, C, H / 2, W / 2), with what backward needs: x where it was pooled,
// that position among four or DEAD, mean and scale of each channel.
void norm_pool_relu(int64_t images, int64_t channels, int64_t height, int64_t width, int threads, const float* x,
                    const float* gamma, const float* beta, float* running_mean, float* running_var, double momentum,
                    double eps, float* y, float* pooled, uint8_t* where, float* mean, float* scale) {
  const Shape s{images, channels, height, width, threads};
  const int64_t rows = height / 2, columns = width / 2;
  statistics(s, x, running_mean, running_var, momentum, eps, mean, scale);
  const Affine affine(channels, mean, scale, gamma, beta);
  parallel(images * rows, 8, s.threads, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line)
      for (int64_t c = 0; c < channels; c += L) {
        const V a = load(affine.a.data() + c), b = load(affine.b.data() + c);
        const V sign = chosen(a < 0, all(-1.f), all(1.f));
        const float* top = x + ((line / rows) * height + 2 * (line % rows)) * width * channels + c;
        const float* bottom = top + width * channels;
        for (int64_t j = 0; j < columns; ++j) {
          const V corner[4] = {load(top + 2 * j * channels), load(top + (2 * j + 1) * channels),
                               load(bottom + 2 * j * channels), load(bottom + (2 * j + 1) * channels)};
          V best = corner[0] * sign;
          I at = {};
          for (int k = 1; k < 4; ++k) {
            const V value = corner[k] * sign;
            const I more = value > best;  // the first of equal ones is kept, as PyTorch keeps it
            best = chosen(more, value, best);
            at = more ? (I{} + k) : at;
          }
          best = best * sign;
          const V z = a * best + b;
          const I alive = z > 0;
          const int64_t o = (line * columns + j) * channels + c;
          store(pooled + o, best);
          store(y + o, chosen(z < 0, V{}, z));  // not-a-number stays
          *reinterpret_cast<B*>(where + o) = __builtin_convertvector(alive ? at : (I{} + DEAD), B);
        }
      }
  });
}

void norm_pool_relu_backward(int64_t images, int64_t channels, int64_t height, int64_t width, int threads, const float* dy,
                             const float* x, const float* pooled, const uint8_t* where, const float* mean,
                             const float* scale, const float* gamma, float* dx, float* dgamma, float* dbeta) {
  const Shape s{images, channels, height, width, threads};
  const int64_t rows = height / 2, columns = width / 2;
  const auto total = summed(images, rows * columns, channels, threads, [&](int64_t c) {
    const V m = load(mean + c);
    return [=](int64_t pixel, V& first, V& second) {
      const int64_t o = pixel * channels + c;
      const V given = chosen(positions(where + o) == DEAD, V{}, load(dy + o));
      first += given;
      second += given * (load(pooled + o) - m);
    };
  });
  const Slopes slopes(channels, total, double(images * s.pixels()), mean, scale, gamma, dgamma, dbeta);
  parallel(images * rows, 8, s.threads, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line)
      for (int64_t c = 0; c < channels; c += L) {
        const V a = load(slopes.a.data() + c), slope = load(slopes.c.data() + c), constant = load(slopes.d.data() + c);
        const int64_t top = ((line / rows) * height + 2 * (line % rows)) * width * channels + c;
        const int64_t bottom = top + width * channels;
        for (int64_t j = 0; j < columns; ++j) {
          const int64_t o = (line * columns + j) * channels + c;
          const I at = positions(where + o);
          const V given = a * load(dy + o);
          const int64_t corner[4] = {top + 2 * j * channels, top + (2 * j + 1) * channels, bottom + 2 * j * channels,
                                     bottom + (2 * j + 1) * channels};
          for (int k = 0; k < 4; ++k)
            store(dx + corner[k], slope * load(x + corner[k]) + constant + chosen(at == k, given, V{}));
        }
        // What pooling leaves out where a side is odd has no part in y, but in mean and variance.
        const auto rest = [&](int64_t o) { store(dx + o, slope * load(x + o) + constant); };
        if (width % 2) rest(top + (width - 1) * channels), rest(bottom + (width - 1) * channels);
        if (height % 2 && line % rows == rows - 1)
          for (int64_t j = 0; j < width; ++j) rest(bottom + (width + j) * channels);
      }
  });
}

// [batch norm, ReLU]: x (B, C, H, W) -> y of the same shape, mean and scale of each channel.
void norm_relu(int64_t images, int64_t channels, int64_t height, int64_t width, int threads, const float* x,
               const float* gamma, const float* beta, float* running_mean, float* running_var, double momentum,
               double eps, float* y, float* mean, float* scale) {
  const Shape s{images, channels, height, width, threads};
  statistics(s, x, running_mean, running_var, momentum, eps, mean, scale);
  const Affine affine(channels, mean, scale, gamma, beta);
  parallel(images * s.pixels(), 512, s.threads, [&](int64_t begin, int64_t end) {
    for (int64_t c = 0; c < channels; c += L) {
      const V a = load(affine.a.data() + c), b = load(affine.b.data() + c);
      for (int64_t p = begin; p < end; ++p) {
        const V z = a * load(x + p * channels + c) + b;
        store(y + p * channels + c, chosen(z < 0, V{}, z));
      }
    }
  });
}

void norm_relu_backward(int64_t images, int64_t channels, int64_t height, int64_t width, int threads, const float* dy,
                        const float* x, const float* y, const float* mean, const float* scale, const float* gamma,
                        float* dx, float* dgamma, float* dbeta) {
  const Shape s{images, channels, height, width, threads};
  const auto total = summed(images, s.pixels(), channels, threads, [&](int64_t c) {
    const V m = load(mean + c);
    return [=](int64_t pixel, V& first, V& second) {
      const int64_t o = pixel * channels + c;
      const V given = chosen(load(y + o) > 0, load(dy + o), V{});
      first += given;
      second += given * (load(x + o) - m);
    };
  });
  const Slopes slopes(channels, total, double(images * s.pixels()), mean, scale, gamma, dgamma, dbeta);
  parallel(images * s.pixels(), 512, s.threads, [&](int64_t begin, int64_t end) {
    for (int64_t c = 0; c < channels; c += L) {
      const V a = load(slopes.a.data() + c), slope = load(slopes.c.data() + c), constant = load(slopes.d.data() + c);
      for (int64_t p = begin; p < end; ++p) {
        const int64_t o = p * channels + c;
        const V given = chosen(load(y + o) > 0, a * load(dy + o), V{});
        store(dx + o, slope * load(x + o) + constant + given);
      }
    }
  });
}

// [max-pool 2] alone, for networks that pool before the norm: (B, C, H, W) -> pooled, positions.
void pool(int64_t images, int64_t channels, int64_t height, int64_t width, int threads, const float* x, float* y,
          uint8_t* where) {
  const Shape s{images, channels, height, width, threads};
  const int64_t rows = height / 2, columns = width / 2;
  parallel(images * rows, 8, s.threads, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line)
      for (int64_t c = 0; c < channels; c += L) {
        const float* top = x + ((line / rows) * height + 2 * (line % rows)) * width * channels + c;
        for (int64_t j = 0; j < columns; ++j) {
          V best = load(top + 2 * j * channels);
          I at = {};
          for (int k = 1; k < 4; ++k) {
            const V value = load(top + ((k / 2) * width + 2 * j + k % 2) * channels);
            const I more = ~(value <= best);  // not-a-number goes through
            best = chosen(more, value, best);
            at = more ? (I{} + k) : at;
          }
          const int64_t o = (line * columns + j) * channels + c;
          store(y + o, best);
          *reinterpret_cast<B*>(where + o) = __builtin_convertvector(at, B);
        }
      }
  });
}

void pool_backward(int64_t images, int64_t channels, int64_t height, int64_t width, int threads, const float* dy,
                   const uint8_t* where, float* dx) {
  const Shape s{images, channels, height, width, threads};
  const int64_t rows = height / 2, columns = width / 2;
  parallel(images * rows, 8, s.threads, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line)
      for (int64_t c = 0; c < channels; c += L) {
        float* top = dx + ((line / rows) * height + 2 * (line % rows)) * width * channels + c;
        for (int64_t j = 0; j < columns; ++j) {
          const int64_t o = (line * columns + j) * channels + c;
          const I at = positions(where + o);
          for (int k = 0; k < 4; ++k)
            store(top + ((k / 2) * width + 2 * j + k % 2) * channels, chosen(at == k, load(dy + o), V{}));
        }
        if (width % 2) store(top + (width - 1) * channels, V{}), store(top + (2 * width - 1) * channels, V{});
        if (height % 2 && line % rows == rows - 1)
          for (int64_t j = 0; j < width; ++j) store(top + (2 * width + j) * channels, V{});
      }
  });
}

// The transposed convolution 4x4 of stride 2 and padding 1 to a single channel: (B, C, H, W) -> (B, 1, 2 H, 2 W).
//
// A pixel adds 16 numbers to its surroundings, one for each tap: they are one register, summed over the channels. They go
// to a canvas with one more pixel on each side, line by line. weight: (C, 16).
void doubled(int64_t images, int64_t channels, int64_t height, int64_t width, int threads, const float* x,
             const float* weight, const float* bias, float* y) {
  parallel(images, 1, threads, [&](int64_t begin, int64_t end) {
    const int64_t line = 2 * width + 2;
    std::vector<float> canvas((2 * height + 2) * line);
    for (int64_t n = begin; n < end; ++n) {
      std::fill(canvas.begin(), canvas.end(), bias[0]);
      for (int64_t i = 0; i < height; ++i)
        for (int64_t j = 0; j < width; ++j) {
          const float* pixel = x + ((n * height + i) * width + j) * channels;
          V sum[4] = {};
          for (int64_t c = 0; c < channels; c += 4)
            for (int k = 0; k < 4; ++k) sum[k] += pixel[c + k] * load(weight + (c + k) * L);
          const V all_taps = (sum[0] + sum[1]) + (sum[2] + sum[3]);
          float* at = canvas.data() + 2 * i * line + 2 * j;
          const Q* quarters = reinterpret_cast<const Q*>(&all_taps);
          for (int k = 0; k < 4; ++k) *reinterpret_cast<Q*>(at + k * line) += quarters[k];
        }
      for (int64_t i = 0; i < 2 * height; ++i)
        std::copy_n(canvas.data() + (i + 1) * line + 1, 2 * width, y + (n * 2 * height + i) * 2 * width);
    }
  });
}

// weight: (16, C), the other way round. dweight: (B, 16, C), for each image.
void doubled_backward(int64_t images, int64_t channels, int64_t height, int64_t width, int threads, const float* dy,
                      const float* x, const float* weight, float* dx, float* dweight) {
  parallel(images, 1, threads, [&](int64_t begin, int64_t end) {
    const int64_t line = 2 * width + 2;
    std::vector<float> canvas((2 * height + 2) * line, 0.f);
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t i = 0; i < 2 * height; ++i)
        std::copy_n(dy + (n * 2 * height + i) * 2 * width, 2 * width, canvas.data() + (i + 1) * line + 1);
      for (int64_t c = 0; c < channels; c += L) {
        V dw[L] = {};
        for (int64_t i = 0; i < height; ++i)
          for (int64_t j = 0; j < width; ++j) {
            const int64_t o = ((n * height + i) * width + j) * channels + c;
            const float* at = canvas.data() + 2 * i * line + 2 * j;
            const V pixel = load(x + o);
            V sum[2] = {};
#pragma GCC unroll 16
            for (int k = 0; k < L; ++k) {
              const float share = at[(k / 4) * line + k % 4];
              sum[k % 2] += share * load(weight + k * channels + c);
              dw[k] += share * pixel;
            }
            store(dx + o, sum[0] + sum[1]);
          }
        for (int k = 0; k < L; ++k) store(dweight + (n * L + k) * channels + c, dw[k]);
      }
    }
  });
}

}  // extern "C"
