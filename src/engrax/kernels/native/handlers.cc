// The products of kernels.inc as XLA foreign functions, on as many threads as XLA has, by the widest instructions that
// the processor has.

#include "loops.h"
#include "parallel.h"
#include "processor.h"

namespace ffi = xla::ffi;

#define ENGRAX_DECLARE(NAME)                                                                                      \
  namespace engrax::NAME {                                                                                        \
  template <typename T>                                                                                           \
  void rows(const T*, const T*, T*, int64_t, int64_t, int64_t, int64_t);                                          \
  template <typename T>                                                                                           \
  void columns(const T*, const T*, T*, int64_t, int64_t, int64_t, int64_t);                                       \
  template <typename T>                                                                                           \
  bool list(const T*, int64_t, int64_t, int64_t, int32_t*, int32_t*);                                             \
  template <typename T>                                                                                           \
  void weighted(const T*, const T*, T*, int64_t, int64_t, int64_t, int64_t, int64_t);                             \
  }
ENGRAX_DECLARE(base)
#ifdef ENGRAX_X86
ENGRAX_DECLARE(avx2)
ENGRAX_DECLARE(avx512)
#endif

namespace engrax {

template <typename T>
struct Kernels {
  decltype(&base::rows<T>) rows = base::rows<T>;
  decltype(&base::columns<T>) columns = base::columns<T>;
  decltype(&base::list<T>) list = base::list<T>;
  decltype(&base::weighted<T>) weighted = base::weighted<T>;

  Kernels() {
#ifdef ENGRAX_X86
    const auto has = widest();
    if (has == Instructions::kAvx512) {
      rows = avx512::rows<T>, columns = avx512::columns<T>, list = avx512::list<T>, weighted = avx512::weighted<T>;
    }
    if (has == Instructions::kAvx2) {
      rows = avx2::rows<T>, columns = avx2::columns<T>, list = avx2::list<T>, weighted = avx2::weighted<T>;
    }
#endif
  }

  static const Kernels& chosen() {
    static const Kernels kernels;
    return kernels;
  }
};

// Multiplications, if all were made, that are worth a part of their own; and the most parts.
constexpr int64_t kGrain = 1 << 21;
constexpr int64_t kParts = 16;

int64_t parts_of(int64_t multiplications, int64_t most) {
  return std::clamp<int64_t>(multiplications / kGrain, 1, std::max<int64_t>(most, 1));
}

// (groups, length, inner) times (groups, inner, width).
template <ffi::DataType kType>
ffi::Error rows_handler(ffi::ThreadPool pool, ffi::Buffer<kType> a, ffi::Buffer<kType> b, ffi::ResultBuffer<kType> c) {
  using T = ffi::NativeType<kType>;
  const auto shape = a.dimensions();
  const int64_t groups = shape[0], length = shape[1], inner = shape[2], width = b.dimensions()[2];
  const T *x = a.typed_data(), *y = b.typed_data();
  T* z = c->typed_data();
  const auto kernel = Kernels<T>::chosen().rows;
  const int64_t parts = parts_of(length * inner * width, std::min(length, kParts));
  for (int64_t g = 0; g < groups; ++g) {
    in_parallel(pool, parts, [=](int64_t part) {
      kernel(x + g * length * inner, y + g * inner * width, z + g * length * width, part * length / parts,
             (part + 1) * length / parts, inner, width);
    });
  }
  return ffi::Error::Success();
}

// The transpose of (groups, length, inner) times (groups, length, width).
template <ffi::DataType kType>
ffi::Error columns_handler(ffi::ThreadPool pool, ffi::Buffer<kType> a, ffi::Buffer<kType> b,
                           ffi::ResultBuffer<kType> c) {
  using T = ffi::NativeType<kType>;
  const auto shape = a.dimensions();
  const int64_t groups = shape[0], length = shape[1], inner = shape[2], width = b.dimensions()[2];
  const T *x = a.typed_data(), *y = b.typed_data();
  T* z = c->typed_data();
  const auto kernel = Kernels<T>::chosen().columns;
  // Each part has a result of its own; they are added in order.
  const int64_t size = inner * width;
  const int64_t parts = parts_of(length * size / 8, size <= 1 << 18 ? 8 : 4);
  std::unique_ptr<T[]> others(new T[(parts - 1) * size]);
  T* scratch = others.get();
  for (int64_t g = 0; g < groups; ++g) {
    T* mine = z + g * size;
    in_parallel(pool, parts, [=](int64_t part) {
      kernel(x + g * length * inner, y + g * length * width, part ? scratch + (part - 1) * size : mine,
             part * length / parts, (part + 1) * length / parts, inner, width);
    });
    for (int64_t part = 0; part + 1 < parts; ++part) {
      for (int64_t i = 0; i < size; ++i) mine[i] += scratch[part * size + i];
    }
  }
  return ffi::Error::Success();
}

// Rows that are looked at before all are listed, and the share of numbers that are not zero up to which they are.
constexpr int64_t kLooked = 256;
constexpr double kSparse = 0.25;

// What is not zero in (..., size) numbers, `length` rows: whether that is listed, spans (length, 2), places.
template <ffi::DataType kType>
ffi::Error list_handler(ffi::ThreadPool pool, ffi::Buffer<kType> a, ffi::ResultBuffer<ffi::S32> what,
                        ffi::ResultBuffer<ffi::S32> spans, ffi::ResultBuffer<ffi::S32> places) {
  using T = ffi::NativeType<kType>;
  const int64_t size = a.dimensions().back(), length = a.element_count() / std::max<int64_t>(size, 1);
  const T* x = a.typed_data();
  int32_t *ends = spans->typed_data(), *to = places->typed_data();
  int64_t seen = 0, looked = 0;
  for (int64_t row = 0; row < length; row += std::max<int64_t>(length / kLooked, 1), ++looked) {
    for (int64_t j = 0; j < size; ++j) seen += x[row * size + j] != T(0);
  }
  Listed found = Listed::kNot;
  if (seen <= kSparse * double(looked * size)) {
    // Of the places' memory only as much is touched as there are: no large pages.
    const auto kernel = Kernels<T>::chosen().list;
    const int64_t parts = std::clamp<int64_t>(length / 64, 1, kParts);
    std::atomic<bool> ones{true};
    in_parallel(pool, parts, [&](int64_t part) {
      if (!kernel(x, part * length / parts, (part + 1) * length / parts, size, ends, to)) ones = false;
    });
    found = ones ? Listed::kOnes : Listed::kNumbers;
  }
  *what->typed_data() = static_cast<int32_t>(found);
  return ffi::Error::Success();
}

// (trials, width) times (trials, inner, width), summed over trials.
template <ffi::DataType kType>
ffi::Error weighted_handler(ffi::ThreadPool pool, ffi::Buffer<kType> g, ffi::Buffer<kType> x,
                            ffi::ResultBuffer<kType> c) {
  const auto shape = x.dimensions();
  const int64_t trials = shape[0], inner = shape[1], width = shape[2];
  const auto *by = g.typed_data(), *rows = x.typed_data();
  auto* to = c->typed_data();
  const auto kernel = Kernels<ffi::NativeType<kType>>::chosen().weighted;
  // What a part sums stays in the nearest cache.
  const int64_t parts = std::clamp<int64_t>(inner * width / 4096, 1, inner);
  in_parallel(pool, parts, [=](int64_t part) {
    kernel(by, rows, to, part * inner / parts, (part + 1) * inner / parts, trials, inner, width);
  });
  return ffi::Error::Success();
}

}  // namespace engrax

#define ENGRAX_HANDLER(NAME, FUNCTION, TYPE)                       \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(NAME, engrax::FUNCTION<TYPE>,      \
                                ffi::Ffi::Bind()                   \
                                    .Ctx<ffi::ThreadPool>()        \
                                    .Arg<ffi::Buffer<TYPE>>()      \
                                    .Arg<ffi::Buffer<TYPE>>()      \
                                    .Ret<ffi::Buffer<TYPE>>())

ENGRAX_HANDLER(engrax_rows_f32, rows_handler, ffi::F32);
ENGRAX_HANDLER(engrax_rows_f64, rows_handler, ffi::F64);
ENGRAX_HANDLER(engrax_columns_f32, columns_handler, ffi::F32);
ENGRAX_HANDLER(engrax_columns_f64, columns_handler, ffi::F64);
ENGRAX_HANDLER(engrax_weighted_f32, weighted_handler, ffi::F32);
ENGRAX_HANDLER(engrax_weighted_f64, weighted_handler, ffi::F64);

#define ENGRAX_LIST(NAME, TYPE)                                    \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(NAME, engrax::list_handler<TYPE>,  \
                                ffi::Ffi::Bind()                   \
                                    .Ctx<ffi::ThreadPool>()        \
                                    .Arg<ffi::Buffer<TYPE>>()      \
                                    .Ret<ffi::Buffer<ffi::S32>>()  \
                                    .Ret<ffi::Buffer<ffi::S32>>()  \
                                    .Ret<ffi::Buffer<ffi::S32>>())

ENGRAX_LIST(engrax_list_f32, ffi::F32);
ENGRAX_LIST(engrax_list_f64, ffi::F64);
