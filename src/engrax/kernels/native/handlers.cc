// The products of kernels.inc as XLA foreign functions, on as many threads as XLA has, by the widest instructions that
// the processor has.

#include "parallel.h"
#include "processor.h"

namespace ffi = xla::ffi;

#define ENGRAX_DECLARE(NAME)                                                                                      \
  namespace engrax::NAME {                                                                                        \
  template <typename T>                                                                                           \
  void rows(const T*, const T*, T*, int64_t, int64_t, int64_t, int64_t);                                          \
  template <typename T>                                                                                           \
  void columns(const T*, const T*, T*, int64_t, int64_t, int64_t, int64_t);                                       \
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

  Kernels() {
#ifdef ENGRAX_X86
    const auto has = widest();
    if (has == Instructions::kAvx512) rows = avx512::rows<T>, columns = avx512::columns<T>;
    if (has == Instructions::kAvx2) rows = avx2::rows<T>, columns = avx2::columns<T>;
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
